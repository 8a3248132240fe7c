"""One request on several GPUs: values, what crosses, what waits for what.  On two or three emulated GPUs."""
import functools
import json
import random

import numpy as np
import pytest

import graphflow as tf
from graphflow.debug import timeline
from graphflow.flags import flags
from graphflow.runtime.cuda import device as devices
from graphflow.testing import emulated_gpu

X = np.linspace(-2, 2, 3000).astype(np.float32).reshape(100, 30)


@pytest.fixture
def gpus():
    """Two GPUs whose work is done only when it is waited for, which shows what does not wait."""
    with emulated_gpu(count=2, memory=1 << 26, deferred=True) as driver, flags.override(early=0, interpret=0):
        yield driver


@pytest.fixture
def two():
    """Two GPUs whose work is done when it is queued."""
    with emulated_gpu(count=2, memory=1 << 26) as driver, flags.override(early=0, interpret=0):
        yield driver


def moved(gpu, step):
    """Bytes that the copies of a run move, by their direction."""
    step()
    step()
    before = dict(gpu.nbytes)
    step()
    return {k: n - before.get(k, 0) for k, n in gpu.nbytes.items() if n != before.get(k, 0)}


# ---------------------------------------------------------------- towers


def towers(places, home, average, optimizer=lambda: tf.train.MomentumOptimizer(0.1, 0.9)):
    """The training program of TF1 with a tower a GPU: shared variables, averaged gradients.  (feed, loss, train, variables)"""
    rng = np.random.default_rng(0)
    x, y = tf.placeholder(tf.float32, [None, 12], name="x"), tf.placeholder(tf.float32, [None, 3], name="y")
    with tf.device(home):
        variables = [tf.Variable(rng.normal(size=s).astype(np.float32) * 0.3) for s in ((12, 20), (20,), (20, 3), (3,))]
    opt, grads, losses = optimizer(), [], []
    for k, place in enumerate(places):
        with tf.device(place):
            xs, ys = x[8 * k:8 * k + 8], y[8 * k:8 * k + 8]
            h = tf.tanh(tf.matmul(xs, variables[0]) + variables[1])
            losses.append(tf.reduce_mean(tf.square(tf.matmul(h, variables[2]) + variables[3] - ys)))
            grads.append(opt.compute_gradients(losses[-1], variables))
    with tf.device(average):
        mean = [(tf.reduce_mean(tf.stack([g for g, _ in pairs]), 0), pairs[0][1]) for pairs in zip(*grads)]
        loss = tf.add_n(losses) / len(losses)
        train = opt.apply_gradients(mean)
    return (x, y), loss, train, variables


def trained(*args, steps=3, **more):
    with tf.Graph().as_default():
        feeds, loss, train, variables = towers(*args, **more)
        rng = np.random.default_rng(1)
        data = {t: rng.normal(size=(8 * len(args[0]), t.shape[1].value)).astype(np.float32) for t in feeds}
        with tf.Session(config=tf.ConfigProto(allow_soft_placement=True)) as sess:
            sess.run(tf.global_variables_initializer())
            losses = [sess.run([loss, train], data)[0] for _ in range(steps)]
            return losses, sess.run(variables)


@functools.cache
def wanted():
    """By NumPy, op by op."""
    with flags.override(early=0, interpret=1):
        return trained(["/cpu:0", "/cpu:0"], "/cpu:0", "/cpu:0")


def same(found, want):
    np.testing.assert_allclose(found[0], want[0], rtol=1e-5)
    for a, b in zip(found[1], want[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("home, average", [("/cpu:0", "/cpu:0"), ("/gpu:1", "/gpu:0"), ("/cpu:0", "/gpu:1")])
def test_towers_train_as_the_cpu_does(gpus, home, average):
    want = wanted()
    same(trained(["/gpu:0", "/gpu:1"], home, average), want)
    assert gpus.counters.launches and (gpus.nbytes["copy_peer"] > 0) == (average != "/cpu:0")


def test_towers_train_as_one_gpu_does(two):
    want = trained(["/gpu:0", "/gpu:0"], "/gpu:0", "/gpu:0")
    assert not two.nbytes["copy_peer"]
    same(want, wanted())
    same(trained(["/gpu:0", "/gpu:1"], "/gpu:0", "/gpu:0"), want)


# ---------------------------------------------------------------- side by side


def segments(sess):
    """The segments of the request that ran last."""
    exe = list(sess._executables.values())[-1]
    return list(exe.idle[0].plan.segments.values())


@pytest.mark.parametrize("home, average", [("/cpu:0", "/cpu:0"), ("/gpu:0", "/gpu:0")])
def test_all_gpus_work_before_the_host_waits_for_one(two, monkeypatch, home, average):
    feeds, loss, train, _ = towers(["/gpu:0", "/gpu:1"], home, average)
    data = {t: np.ones((16, t.shape[1].value), np.float32) for t in feeds}
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(2):
            sess.run([loss, train], data)
        calls = []
        for method in ("launch_graph", "synchronize", "wait", "copy_peer"):
            def call(*args, method=method, before=getattr(two, method)):
                calls.append((method, two.ordinal))
                return before(*args)
            monkeypatch.setattr(two, method, call)
        sess.run([loss, train], data)
    refreshed = [c[0] for c in calls].index("launch_graph")  # before that the variables of one GPU have come to the other
    work = calls[refreshed:]
    assert sorted(work[:2]) == [("launch_graph", 0), ("launch_graph", 1)], "both towers are queued first"
    assert sorted(work[-2:]) == [("synchronize", 0), ("synchronize", 1)] and [c[0] for c in calls].count("synchronize") == 2
    crossing = [c for c in work if c[0] in ("wait", "copy_peer")]
    assert crossing == ([] if average == "/cpu:0" else [("wait", 0)] + 5 * [("copy_peer", 0)]), "gradients and the loss of the second"


def test_a_tower_and_its_average_are_not_one_kernel(two):
    feeds, loss, train, _ = towers(["/gpu:0", "/gpu:1"], "/gpu:0", "/gpu:0", lambda: tf.train.GradientDescentOptimizer(0.1))
    data = {t: np.ones((16, t.shape[1].value), np.float32) for t in feeds}
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(2):
            sess.run([loss, train], data)
        joint, = segments(sess)
        assert [(p.segment.side.name, len(p.waits)) for p in joint.parts][-1] == ("GPU:0", 1)
        assert sorted((p.segment.side.name, len(p.waits)) for p in joint.parts[:-1]) == [("GPU:0", 0), ("GPU:1", 0)]
        found = tf.explain([loss, train], data)
    assert {k.kind.split("(")[1] for k in found.kernels} == {"GPU:0)", "GPU:1)"} and "another device" in str(found.refusals)
    assert all(k.ptx() for k in found.kernels)


# ---------------------------------------------------------------- what crosses


def test_a_value_crosses_once_to_each_gpu_that_reads_it(gpus):
    x = tf.placeholder(tf.float32, [100, 30])
    with tf.device("/gpu:0"):
        a = tf.cumsum(x, 1)
    with tf.device("/gpu:1"):
        b = [tf.cumsum(a * 2.0, 1), tf.reduce_sum(a), tf.nn.softmax(a)]
    with tf.Session() as sess:
        step = sess.make_callable(b, [x])
        counted = moved(gpus, lambda: step(X))
        assert counted["copy_peer"] == X.nbytes and counted["copy_in"] < 2 * X.nbytes
        a_ = np.cumsum(X, 1)
        got = step(X)
        np.testing.assert_allclose(got[0], np.cumsum(a_ * 2, 1), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(got[1], a_.sum(), rtol=1e-4)


def test_a_variable_crosses_only_when_it_has_changed(gpus):
    with tf.device("/gpu:0"):
        v = tf.Variable(X)
        change = v.assign_add(tf.ones_like(v))
    with tf.device("/gpu:1"):
        y = tf.reduce_sum(v * 2.0, 1)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        read, add = sess.make_callable(y), sess.make_callable(change.op)
        assert "copy_peer" not in moved(gpus, read)
        for turn in range(1, 4):
            counted = moved(gpus, lambda: (add(), read()))
            assert counted["copy_peer"] == X.nbytes and "copy_in" not in counted
            np.testing.assert_allclose(read(), 2 * (X + 3 * turn).sum(1), rtol=1e-4, atol=1e-3)
        v.load(X, sess)  # from the host, to both
        np.testing.assert_allclose(read(), 2 * X.sum(1), rtol=1e-4, atol=1e-3)
        add()
        np.testing.assert_allclose(sess.run(v), X + 1)


def test_variables_change_hands(gpus):
    v, w = tf.Variable(X, use_resource=True), tf.Variable(2 * X, use_resource=True)
    steps = []
    for k in range(2):
        with tf.device(f"/gpu:{k}"):
            new = tf.tanh(w) + v * 0.5
        steps.append(v.assign(new).op)
    with tf.device("/gpu:1"):
        steps.append(w.assign(tf.tanh(v) - w * 0.25).op)
    with tf.Session(config=tf.ConfigProto(allow_soft_placement=True)) as sess:
        sess.run(tf.global_variables_initializer())
        a, b = X, 2 * X
        for turn, k in enumerate((0, 0, 1, 2, 0, 2, 1, 1, 0)):
            sess.run(steps[k])
            a, b = (a, np.tanh(a) - b * 0.25) if k == 2 else (np.tanh(b) + a * 0.5, b)
            if turn % 2:
                for found, want in zip(sess.run([v, w]), (a, b)):
                    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)
    assert gpus.nbytes["copy_peer"]


def test_what_weights_alone_decide_is_computed_once_and_crosses_once(gpus):
    x = tf.placeholder(tf.float32, [5, 100])
    with tf.device("/gpu:0"):
        w = tf.Variable(X)
        p = tf.nn.softmax(w)
    with tf.device("/gpu:1"):
        y = tf.matmul(x, p)
    feed = np.ones((5, 100), np.float32)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        step = sess.make_callable(y, [x])
        assert "copy_peer" not in moved(gpus, lambda: step(feed))

        def want(w):
            e = np.exp(w)
            return feed @ (e / e.sum(1, keepdims=True))
        np.testing.assert_allclose(step(feed), want(X), rtol=1e-4)
        w.load(3 * X, sess)
        np.testing.assert_allclose(step(feed), want(3 * X), rtol=1e-4)


def test_a_gpu_between_two_others():
    with emulated_gpu(count=3, memory=1 << 24, deferred=True) as driver, flags.override(early=0):
        x = tf.placeholder(tf.float32, [100, 30])
        y = x
        for k in (0, 1, 2, 1, 0):
            with tf.device(f"/gpu:{k}"):
                y = tf.cumsum(y, 1) * 0.1
        with tf.Session() as sess:
            want = X
            for _ in range(5):
                want = np.cumsum(want, 1) * 0.1
            step = sess.make_callable(y, [x])
            assert moved(driver, lambda: step(X))["copy_peer"] == 4 * X.nbytes
            np.testing.assert_allclose(step(X), want, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- branches and loops


def test_loops_and_branches_on_one_gpu_each(gpus):
    x, n = tf.placeholder(tf.float32, [100, 30]), tf.placeholder(tf.int32, [])
    with tf.device("/gpu:0"):
        a = tf.cumsum(x, 1)
        _, b = tf.while_loop(lambda i, s: i < n, lambda i, s: (i + 1, tf.tanh(s + a)), [0, a])
    with tf.device("/gpu:1"):
        c = tf.cond(tf.reduce_sum(b) > 0, lambda: b * 2.0, lambda: a - b)
        _, d = tf.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, s * 0.5 + c), [0, b])
    with tf.Session() as sess:
        for sign in (1, -1):
            for turns in (0, 2):
                feed = np.abs(X) * sign
                first = np.cumsum(feed, 1)
                s = first
                for _ in range(turns):
                    s = np.tanh(s + first)
                e = s * 2 if s.sum() > 0 else first - s
                want = s
                for _ in range(3):
                    want = want * 0.5 + e
                got = sess.run([b, c, d], {x: feed, n: turns})
                for u, v in zip(got, (s, e, want)):
                    np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-4)
    assert gpus.nbytes["copy_peer"] >= 4 * X.nbytes


def test_a_loop_over_two_gpus_runs_on_one_and_says_so(two):
    x = tf.placeholder(tf.float32, [100, 30])

    def body(i, s):
        with tf.device("/gpu:0"):
            t = tf.tanh(s)
        with tf.device("/gpu:1"):
            return i + 1, tf.cumsum(t, 1) * 0.1

    _, y = tf.while_loop(lambda i, s: i < 3, body, [0, x])
    with tf.device("/gpu:1"):
        z = tf.reduce_sum(y, 1)
    with tf.Session() as sess:
        with pytest.warns(UserWarning, match="are placed on GPU:0, GPU:1: all run on GPU:0, since a branch or loop uses one GPU"):
            got = sess.run(z, {x: X})
        want = X
        for _ in range(3):
            want = np.cumsum(np.tanh(want), 1) * 0.1
        np.testing.assert_allclose(got, want.sum(1), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("home", ["/cpu:0", "/gpu:0"])
def test_an_error_in_one_tower_changes_nothing(gpus, home):
    ids = [tf.placeholder(tf.int32, [4]) for _ in range(2)]
    with tf.device(home):
        table, count = tf.Variable(X), tf.Variable(np.zeros(30, np.float32))
    rows = []
    for k in range(2):
        with tf.device(f"/gpu:{k}"):
            rows.append(tf.reduce_sum(tf.gather(table, ids[k]), 0))
    with tf.device("/gpu:1"):
        mine = tf.Variable(np.zeros(30, np.float32))
        step = tf.group(count.assign_add(rows[0]), mine.assign_add(rows[1]))
    good, bad = np.arange(4), np.arange(4) + 97
    with tf.Session(config=tf.ConfigProto(allow_soft_placement=True)) as sess:
        sess.run(tf.global_variables_initializer())
        call = sess.make_callable(step, ids)
        for turn in range(1, 4):
            call(good, good)
            for pair in ((good, bad), (bad, good), (bad, bad)):
                with pytest.raises(tf.errors.InvalidArgumentError, match="indices|index"):
                    call(*pair)
            for value in sess.run([count, mine]):
                np.testing.assert_allclose(value, turn * X[:4].sum(0), rtol=1e-5)


def test_no_memory_on_the_second_gpu(two):
    x = tf.placeholder(tf.float32, [None, 1024])
    with tf.device("/gpu:0"):
        v = tf.Variable(np.zeros(4, np.float32))
        change = v.assign_add(tf.reduce_sum(x) * tf.ones(4))
    with tf.device("/gpu:1"):
        y = tf.reduce_sum(tf.cumsum(tf.cumsum(x, 0) * 2.0, 0))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        run = sess.make_callable([y, change.op], [x])
        run(np.zeros((8, 1024), np.float32))
        block = devices.devices()[1].allocate(40 << 20)
        with pytest.raises(tf.errors.ResourceExhaustedError, match="GPU 1"):
            run(np.ones((8 << 10, 1024), np.float32))
        devices.devices()[1].free(block)
        np.testing.assert_array_equal(sess.run(v), np.zeros(4))
        run(np.ones((8, 1024), np.float32))
        np.testing.assert_array_equal(sess.run(v), np.full(4, 8192))


def test_a_fault_on_one_gpu_is_that_of_its_kernel():
    with emulated_gpu(count=2, memory=1 << 24, as_hardware=True) as driver, flags.override(early=0):
        x = tf.placeholder(tf.float32, [100, 30])
        with tf.device("/gpu:0"):
            a = tf.cumsum(x, 1)
        with tf.device("/gpu:1"):
            b = tf.cumsum(a, 1)
        with tf.Session() as sess:
            sess.run(b, {x: X})
            driver.fail_next("copy_peer", "CUDA_ERROR_LAUNCH_FAILED")
            with pytest.raises(tf.errors.InternalError, match=r"GPU 1 \(Emulated GPU\) failed while copying"):
                sess.run(b, {x: X})


# ---------------------------------------------------------------- what is around


def test_a_missing_second_gpu():
    with emulated_gpu() as driver, flags.override(early=0):
        x = tf.placeholder(tf.float32, [100, 30])
        with tf.device("/gpu:1"):
            y = tf.cumsum(x, 1)
        with tf.Session(config=tf.ConfigProto(allow_soft_placement=True)) as sess:
            np.testing.assert_allclose(sess.run(y, {x: X}), np.cumsum(X, 1), rtol=1e-4, atol=1e-5)
            assert sess.placement.of(y.op).endswith("GPU:0") and driver.counters.launches
        with pytest.raises(tf.errors.InvalidArgumentError, match="there is 1 GPU"):
            tf.Session().run(y, {x: X})


def test_results_and_feeds_stay_on_their_gpu(two):
    x, z = tf.placeholder(tf.float32, [100, 30]), tf.placeholder(tf.float32, [100, 30])
    with tf.device("/gpu:0"):
        a = tf.cumsum(x, 1)
    with tf.device("/gpu:1"):
        b = tf.cumsum(z, 1) * 2.0
    first, second = devices.devices()
    with tf.Session() as sess:
        for _ in range(3):
            found = sess.run_on_device([a, b], {x: X, z: -X})
        assert [f.device for f in found] == [first, second]
        for f, want in zip(found, (np.cumsum(X, 1), -2 * np.cumsum(X, 1))):
            np.testing.assert_allclose(f.numpy(), want, rtol=1e-4, atol=1e-4)
        before = two.nbytes["copy_in"]
        again = sess.run_on_device([a, b], {x: found[0], z: found[1]})  # each where it is read
        assert two.nbytes["copy_in"] == before
        np.testing.assert_allclose(again[1].numpy(), 2 * np.cumsum(found[1].numpy(), 1), rtol=1e-4, atol=1e-3)
        crossed = sess.run([a, b], {x: found[1], z: found[0]})  # each on the other one
        np.testing.assert_allclose(crossed[0], np.cumsum(found[1].numpy(), 1), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(crossed[1], 2 * np.cumsum(found[0].numpy(), 1), rtol=1e-4, atol=1e-3)


def test_traces_have_a_row_for_each_gpu(two):
    x = tf.placeholder(tf.float32, [100, 30])
    with tf.device("/gpu:0"):
        a = tf.cumsum(x, 1, name="first")
    with tf.device("/gpu:1"):
        b = tf.cumsum(a, 1, name="second")
    told = tf.RunMetadata()
    with tf.Session() as sess:
        sess.run(b, {x: X}, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=told)
    rows = {d.device.rsplit("device:", 1)[1]: [n.timeline_label for n in d.node_stats] for d in told.step_stats.dev_stats}
    assert list(rows) == ["GPU:0", "GPU:1"]
    assert any("first" in n for n in rows["GPU:0"]) and any("second" in n for n in rows["GPU:1"])
    assert any("copy from GPU:0" in n for n in rows["GPU:1"]) and not any("second" in n for n in rows["GPU:0"])
    names = {e["args"]["name"] for e in json.loads(timeline.Timeline(told.step_stats).generate_chrome_trace_format())["traceEvents"]
             if e["name"] == "process_name"}
    assert len(names) == 2


def test_each_kernel_is_compared_where_it_runs(two):
    with flags.override(check=2):
        losses, _ = trained(["/gpu:0", "/gpu:1"], "/gpu:0", "/gpu:1", steps=2)
    assert np.isfinite(losses).all()


def test_a_session_gives_all_memory_back(two):
    with tf.Session() as sess:
        feeds, loss, train, _ = towers(["/gpu:0", "/gpu:1"], "/gpu:0", "/gpu:0")
        sess.run(tf.global_variables_initializer())
        sess.run([loss, train], {t: np.ones((16, t.shape[1].value), np.float32) for t in feeds})
        assert all(d.memory.stats().used for d in devices.devices())
    assert [d.memory.stats().used for d in devices.devices()] == [0, 0]


def test_a_plan_from_disk_knows_its_gpus(two):
    results = []
    for places in (["/gpu:0", "/gpu:1"], ["/gpu:0", "/gpu:1"], ["/gpu:1", "/gpu:1"]):
        with tf.Graph().as_default():
            feeds, loss, train, _ = towers(places, "/gpu:0", "/gpu:0")
            data = {t: np.ones((16, t.shape[1].value), np.float32) for t in feeds}
            with tf.Session() as sess:
                sess.run(tf.global_variables_initializer())
                results.append([sess.run([loss, train], data)[0] for _ in range(2)])
                exe = list(sess._executables.values())[-1]
                results[-1].append(exe.variants[0][0].compiled.gpus)
                assert len(results) != 2 or exe.variants[0][0]._whole is None  # not compiled again
    assert [r[2] for r in results] == [["GPU:0", "GPU:1"]] * 3
    np.testing.assert_allclose([r[:2] for r in results], [results[0][:2]] * 3, rtol=1e-5)


# ---------------------------------------------------------------- anything


def program(seed):
    """A random program on random devices: (feeds, results, assignments, variables)."""
    r, rng, n = random.Random(seed), np.random.default_rng(seed), 8
    x, ids = tf.placeholder(tf.float32, [n, n]), tf.placeholder(tf.int32, [n])
    places = ["/cpu:0", "/gpu:0", "/gpu:1", "/gpu:2"]
    variables = []
    for _ in range(3):
        with tf.device(r.choice(places)):
            variables.append(tf.Variable(rng.uniform(-1, 1, (n, n)).astype(np.float32)))
    values = [x, *variables]
    made = [lambda a, b: tf.tanh(a) * b, lambda a, b: tf.matmul(a, b) * 0.2, lambda a, b: a + tf.reduce_sum(b, 0, keepdims=True) * 0.1,
            lambda a, b: tf.transpose(a) - b, lambda a, b: tf.gather(a, ids) * 0.5, lambda a, b: tf.cumsum(a, 1) * 0.1,
            lambda a, b: tf.concat([a[:4], b[4:]], 0),
            lambda a, b: tf.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, s * 0.5 + b), [0, a])[1],
            lambda a, b: tf.cond(tf.reduce_sum(a) > 0, lambda: b * 2.0, lambda: a - b)]
    for _ in range(8):
        with tf.device(r.choice(places)):
            values.append(r.choice(made)(r.choice(values), r.choice(values)))
    writes = []
    for v in variables:
        with tf.device(r.choice(places)):
            writes.append(tf.assign(v, tf.tanh(r.choice(values))).op)
    return (x, ids), values[-3:], writes, variables


def ran(seed):
    rng, out = np.random.default_rng(seed), []
    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(allow_soft_placement=True)) as sess:
        (x, ids), results, writes, variables = program(seed)
        sess.run(tf.global_variables_initializer())
        step = sess.make_callable([*results, *writes], [x, ids])
        for _ in range(3):
            out += step(rng.uniform(-1, 1, (8, 8)).astype(np.float32), rng.permutation(8).astype(np.int32))[:3]
        return out + sess.run(variables)


@pytest.mark.filterwarnings("ignore:ops inside", "ignore:feed_dict")
@pytest.mark.parametrize("seed", range(3))
def test_random_programs_on_random_devices(seed):
    with flags.override(early=0, interpret=1):
        want = ran(seed)
    with emulated_gpu(count=3, memory=1 << 24, deferred=bool(seed % 2)), flags.override(early=0):
        for a, b in zip(ran(seed), want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
