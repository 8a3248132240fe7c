"""Generated GPU kernels: values on the emulator under its checks over ragged shapes, and what their memory accesses cost."""
import re

import numpy as np
import pytest

import graphflow as tf
from graphflow.testing import emulated_gpu
from graphflow.testing import ptx as emulator

P, f = tf.placeholder, tf.float32


def on_both(build, tolerance=2e-6, seed=0):
    """Runs the fetches of `build()` on the CPU and on an emulated GPU with the same feeds; they are alike. Returns the driver."""
    rng = np.random.default_rng(seed)

    def sample(t):
        shape, dtype = [37 if n is None else n for n in t.shape.as_list()], t.dtype.as_numpy_dtype
        return rng.integers(0, 5, shape).astype(dtype) if np.dtype(dtype).kind in "biu" else rng.standard_normal(shape).astype(dtype)
    with tf.Graph().as_default() as g:
        fetches = build()
        fetches = list(fetches) if isinstance(fetches, list | tuple) else [fetches]
        feeds = {o.outputs[0]: sample(o.outputs[0]) for o in g.get_operations() if o.type == "Placeholder"}
        with tf.Session() as sess:
            wanted = sess.run(fetches, feeds)
        with emulated_gpu() as driver, tf.Session() as sess:
            found = sess.run(fetches, feeds)
            assert driver.calls["launch"] or not any(a.size for a in wanted)
    for a, b in zip(wanted, found, strict=True):
        if a.dtype.kind in "biu":
            np.testing.assert_array_equal(b, a)
        else:
            a, b = a.astype(np.float64), b.astype(np.float64)
            np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * (np.abs(a).max(initial=0) + 1e-30))
    return driver


def normed(x, axes):
    mean, variance = tf.nn.moments(x, axes, keep_dims=True)
    return (x - mean) * tf.rsqrt(variance + 1e-3)


OTHERS = [(t, n) for t in (tf.float64, tf.bfloat16, tf.float16, tf.int8, tf.bool) for n in ((5, 7), (3, 256))]


@pytest.mark.parametrize("dtype, shape", [*((f, n) for n in ((3,), (5, 7), (4, 12), (2, 3, 1001), (6, 34), (0, 4), (3, 256))), *OTHERS],
                         ids=lambda x: getattr(x, "name", x).__str__())
def test_points_of_every_width(dtype, shape):
    def build():
        x, y = P(dtype, shape), P(dtype, shape[-1:])
        return [tf.logical_xor(x, y)] if dtype == tf.bool else [x + y, x * 2]
    on_both(build, 1e-2 if dtype.size == 2 else 2e-6)


@pytest.mark.parametrize("shape, axis", [((3, 1000), 1), ((2, 1001), 1), ((3, 40000), 1), ((6, 50, 33), 1), ((2000, 10), 0),
                                         ((3, 8, 30), (0, 2)), ((4, 0, 3), (1, 2)), ((0, 3, 0), (0, 1)), ((None, None), 1),
                                         ((None, 12), 0)], ids=str)
def test_folds_along_any_axes(shape, axis):
    def build():
        x = P(f, shape)
        if 0 in shape:
            return [tf.reduce_sum(x, axis), tf.reduce_sum(x * 2, 0), tf.reduce_prod(x)]
        return [tf.reduce_max(x * 2, axis), normed(x, [axis] if isinstance(axis, int) else axis)]
    on_both(build, 1e-5)


@pytest.mark.parametrize("shape", [(5, 10), (3, 1000), (None, None)], ids=str)
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16], ids=lambda t: t.name)
def test_softmax_forward_and_backward(shape, dtype):
    def build():
        x = P(dtype, shape)
        y = tf.nn.softmax(x)
        return [y, tf.gradients(y, [x], P(dtype, shape))[0]]
    on_both(build, 2e-2 if dtype.size == 2 else 1e-5)


def test_cross_entropy_of_labels():
    def build():
        x = P(f, [9, 1000])
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=P(tf.int32, [9]), logits=x))
        return [loss, *tf.gradients(loss, [x])]
    on_both(build, 1e-5)


def test_norms_and_their_gradients():
    def build():
        x, g = P(f, [6, 5, 5, 8]), P(f, [8])
        return [t for axes in ([0, 1, 2], [3]) for t in tf.gradients(normed(x, axes) * g, [x, g], P(f, [6, 5, 5, 8]))]
    on_both(build, 1e-4)


@pytest.mark.parametrize("optimizer", [lambda: tf.train.MomentumOptimizer(0.1, 0.9), lambda: tf.train.AdamOptimizer(0.1)],
                         ids=["momentum", "adam"])
def test_updates_of_many_variables_are_one_launch(optimizer):
    sizes, found = [(1,), (3,), (1030,), (5, 7), (64, 64), (2,), (4097,), (8, 3, 3), (16,), (2048,), (6,), (10, 10)], []
    values = [np.random.default_rng(k).standard_normal(n).astype(np.float32) for k, n in enumerate(sizes)]
    for gpu in (False, True):
        with tf.Graph().as_default(), emulated_gpu() as driver, tf.device("/gpu:0" if gpu else "/cpu:0"):
            variables = [tf.Variable(v) for v in values]
            given = [P(f, n) for n in sizes]
            step = optimizer().apply_gradients(list(zip(given, variables, strict=True)))
            with tf.Session() as sess:
                sess.run(tf.global_variables_initializer())
                for _ in range(3):
                    before = driver.calls["launch"]
                    sess.run(step, dict(zip(given, values, strict=True)))
                    assert driver.calls["launch"] - before <= 8
                found.append(sess.run(variables))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-7)


def test_small_launches_of_equal_text_are_one():
    def build():
        many = [tf.nn.softmax(P(f, [7, 300])) for _ in range(4)]
        return [*many, tf.nn.softmax(many[0])]
    assert on_both(build).calls["launch"] == 2


def test_launches_that_meet_stay_apart():
    from graphflow.codegen.cuda.launch import Launch, Many
    from graphflow.runtime.cuda import together

    many = Many("text", [8], 4, 256)
    launch = Launch("", [], [], (1, 1, 1), 256, (), many=many)

    def step(*spans):
        return together.Step("", lambda: None, lambda: list(spans), launch)
    a, b, reads_a, c = step((0, 8, True)), step((8, 16, True)), step((4, 6, False), (20, 24, True)), step((30, 31, True))
    assert together.groups([a, b, c]) == [[0, 1, 2]]
    assert together.groups([a, reads_a, b]) == [[1, 2]]
    assert together.groups([a, together.Step("", lambda: None), b]) == []
    assert together.groups([a, together.Step("", lambda: None, lambda: [(0, 4, False)]), b]) == []
    assert together.table(many, [([64, 128], [1030], 0), ([256, 512], [3], 0)]).tolist() == [
        [64, 128, 0, 1030], [64, 128, 256, 1030], [256, 512, 0, 3]]
    assert together.table(Many("text", [], 0, 256), [([64], [7], 2), ([128], [9], 1)]).tolist() == [[64, 0, 7], [64, 1, 7], [128, 0, 9]]


def ptx_of(build):
    """The PTX of the kernels of a fetch."""
    found = []
    with tf.Graph().as_default() as g, emulated_gpu() as driver:
        fetch = build()
        link = driver.link
        driver.link = lambda ptx, label="": found.append(ptx) or link(ptx, label)
        with tf.Session() as sess:
            given = [o.outputs[0] for o in g.get_operations() if o.type == "Placeholder"]
            sess.run(fetch, {t: np.zeros(t.shape.as_list(), t.dtype.as_numpy_dtype) for t in given})
    return "".join(found)


@pytest.mark.parametrize("build, loads", [
    (lambda: P(f, [64, 100]) + P(f, [100]), 2), (lambda: P(tf.bfloat16, [64, 64]) * 2, 1),
    (lambda: tf.logical_not(P(tf.bool, [64, 64])), 1),
    (lambda: P(tf.float64, [64, 6]) * 2, 1), (lambda: tf.transpose(P(f, [8, 6, 5, 64]), [0, 2, 1, 3]), 1),
    (lambda: tf.gather(P(f, [50, 64]), [3, 1, 2]), 1), (lambda: tf.nn.softmax(P(f, [8, 1000])), 2)],
    ids=["bias", "bfloat16", "bool", "float64", "permuted", "gathered", "softmax"])
def test_accesses_are_of_16_bytes(build, loads):
    text = ptx_of(build)
    wide = len(re.findall(r"ld\.global\.\S*(?:v4\.b32|v2\.b64)", text))
    narrow = re.findall(r"ld\.global\.(?:nc\.)?[bfsu]\d+|ld\.global\.(?:nc\.)?v2\.b32|st\.global\.[bfsu]\d+", text)
    assert wide == loads and len(narrow) <= 1  # the row that is gathered


def test_neighbours_share_a_block_of_random_numbers():
    assert ptx_of(lambda: tf.random_uniform([64, 64], seed=1)).count("mul") <= 50  # 40 in the 10 rounds of a block
    on_both(lambda: [tf.random_uniform([3, 44], seed=1), tf.random_normal([7, 5], seed=2),
                     tf.random_uniform([9], dtype=tf.float64, seed=3)])


@pytest.mark.parametrize("name", ["exp", "sigmoid", "softplus", "tanh", "erf", "erfc"])
def test_functions_of_the_gpu_are_as_exact_as_they_say(name):
    """Also with the errors that the PTX ISA grants 2^x and 1/x."""
    from graphflow.codegen.cuda import functions

    special = pytest.importorskip("scipy.special")
    exact = {"exp": np.exp, "sigmoid": special.expit, "softplus": lambda x: np.logaddexp(0.0, x), "tanh": np.tanh, "erf": special.erf,
             "erfc": special.erfc}[name]
    r = np.random.default_rng(0)
    edges = [0.0, -0.0, np.inf, -np.inf, np.nan, 0.6, 1.0, 4.0, -87.5, -103.5, 88.7, 89.0, 1e-40, 3e38]
    x = np.r_[r.uniform(-104, 89, 4000), r.uniform(-3, 3, 8000), r.standard_normal(3000) * np.exp(r.uniform(-80, 2, 3000)), edges]
    x = x.astype(np.float32)
    with np.errstate(all="ignore"):
        wanted = exact(x.astype(np.float64))
        rounded = wanted.astype(np.float32)
    plain = np.isfinite(rounded)
    with tf.Graph().as_default(), emulated_gpu(), tf.Session() as sess:
        given = P(f, x.shape)
        fetch = getattr(tf.math, name)(given)
        for seed in (None, 0, 1, 2):
            with emulator.imprecise(seed):
                found = sess.run(fetch, {given: x})
            np.testing.assert_array_equal(found[~plain], rounded[~plain])
            assert np.array_equal(np.signbit(found[rounded == 0]), np.signbit(rounded[rounded == 0]))
            ulps = np.abs(found[plain] - wanted[plain]) / np.spacing(np.abs(rounded[plain])).astype(np.float64)
            worst = np.argmax(ulps)
            assert ulps[worst] <= functions.BOUNDS[f"{name}_f32"], (x[plain][worst], ulps[worst], seed)


def test_windows_scans_and_pieces():
    def build():
        x, y = P(f, [2, 7, 9, 12]), P(f, [37, 45])
        pooled = tf.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME")
        return [tf.gradients(pooled, [x])[0], tf.cumsum(y, 0, exclusive=True, reverse=True), tf.cumsum(y, 1),
                tf.cumprod(P(tf.int32, [50, 3]), 0),
                tf.concat([y, y * 2], 1), tf.pad(x, [[0, 0], [1, 1], [2, 0], [0, 0]]), tf.pad(y, [[1, 2], [3, 1]], "SYMMETRIC")]
    on_both(build, 1e-5)


def test_windows_at_neighbouring_points(monkeypatch):
    from graphflow.codegen.cuda import points

    monkeypatch.setattr(points, "BUSY", 1)
    monkeypatch.setattr(points, "MANY_GROUPS", 1)

    def build():
        x = P(f, [2, 7, 9, 12])
        pooled = tf.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME")
        return [pooled, tf.nn.avg_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "VALID") * 2, tf.nn.relu(P(f, [64, 128]) + P(f, [128]))]
    on_both(build)


def normalised_gradient():
    x, g = P(f, [16, 1024]), P(f, [1024])
    return tf.gradients(normed(x, [1]) * g, [x], P(f, [16, 1024]))[0]


@pytest.mark.parametrize("build, read, written", [
    (lambda: P(f, [64, 128]) + P(f, [64, 128]), 2, 1), (lambda: tf.nn.softmax(P(f, [16, 1024])), 1, 1),
    (lambda: normed(P(f, [16, 1024]), [1]), 1, 1), (normalised_gradient, 2 + 1, 1), (lambda: tf.transpose(P(f, [64, 128])), 1, 1),
    (lambda: tf.transpose(P(tf.bfloat16, [4, 96, 64]), [0, 2, 1]), 1, 1), (lambda: tf.reduce_sum(P(f, [128, 64]), 0), 1, 1 / 128),
    (lambda: tf.nn.log_softmax(P(f, [16, 4096])), 1, 1), (lambda: tf.cumsum(P(f, [64, 64]), 0), 1, 1)],
    ids=["add", "softmax", "norm", "norm_gradient", "transposed", "transposed_16_bit", "columns", "log_softmax", "scan"])
def test_memory_is_read_and_written_once_in_whole_sectors_without_conflicts(build, read, written):
    with tf.Graph().as_default() as g, emulated_gpu() as driver, tf.Session() as sess:
        fetch = build()
        given = [o.outputs[0] for o in g.get_operations() if o.type == "Placeholder"]
        sess.run(fetch, {t: np.ones(t.shape.as_list(), t.dtype.as_numpy_dtype) for t in given})
        size = np.prod(given[0].shape.as_list()) * given[0].dtype.size
        counted = driver.counters
        assert counted.coalesced and counted.bank_conflicts == 0 and counted.local_accesses == 0
        assert (counted.global_load_bytes, counted.global_store_bytes) == (read * size, written * size)


def test_indices_of_64_bits(monkeypatch):
    monkeypatch.setattr("graphflow.runtime.cuda.plan.LIMIT", 8)

    def build():
        x, y = P(f, [40, 100]), P(f, [3, 7, 31])
        return [tf.nn.softmax(x), tf.reduce_sum(x, 0), x + P(f, [100]), y * 2, tf.cumsum(x, 0), tf.cumsum(x, 1), tf.transpose(x),
                tf.reduce_sum(y, 1), tf.nn.max_pool(P(f, [2, 7, 9, 12]), [1, 3, 3, 1], [1, 2, 2, 1], "SAME"), tf.gather(x, [3, 1])]
    on_both(build, 1e-5)


@pytest.mark.parametrize("shape", [(3, 12001), (None, None), (2, 3, 9000)], ids=str)
def test_folds_of_everything_have_work_for_many_blocks(shape, monkeypatch):
    """Also where what is folded is no single array, so that its axes do not become one, and the last are long."""
    from graphflow.codegen.cuda import emit

    found = []
    launches = emit.launches
    monkeypatch.setattr(emit, "launches", lambda *given, **more: found.extend(made := launches(*given, **more)) or made)
    n = shape[-1] or 12001
    x, b = np.random.default_rng(0).standard_normal([*(n or 3 for n in shape[:-1]), n]).astype(np.float32), np.ones(n, np.float32)
    for limit, wide in ((1 << 30, False), (1 << 15, shape[0] is not None)):  # its places may need 64 bits where no array does
        found.clear()
        monkeypatch.setattr(emit, "LIMIT", limit)
        with tf.Graph().as_default(), emulated_gpu() as gpu, tf.Session() as sess:
            given, base = P(f, shape), P(f, shape[-1:])
            total = sess.run(tf.reduce_sum(tf.square(given - base)), {given: x, base: b})
            assert gpu.counters.launches == 2 and found[0].wide == wide
        np.testing.assert_allclose(total, np.square(x - b).sum(dtype=np.float64), rtol=1e-5)


def test_quotients_that_are_rounded_or_have_a_constant_divisor_are_exact():
    """Also where `div.full` is 2 ulp off, as it may be on hardware."""
    r = np.random.default_rng(0)
    x = np.r_[r.standard_normal(1000) * 1e3, r.integers(1, 300, 1000), 0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3e38].astype(np.float32)
    y = np.where(r.random(x.size) < 0.5, x, r.integers(1, 50, x.size)).astype(np.float32)
    with tf.Graph().as_default(), emulated_gpu(), tf.Session() as sess, np.errstate(all="ignore"):
        a, b = P(f, x.shape), P(f, x.shape)
        rounded = tf.cast(a[:2000] / b[:2000] * 2.0 + 0.5, tf.int32)
        fetches = [a // b, tf.truncatediv(a, b), tf.floor(a / b), tf.round(tf.abs(a / b)), tf.equal(a[:2005] / b[:2005], 1.0), rounded,
                   tf.floor(tf.sqrt(b)), a / 255.0, a / -0.3, tf.reduce_mean(tf.reshape(a[:2000], [20, 100]), 1)]
        q = x / y
        wanted = [np.floor(q), np.trunc(q), np.floor(q), np.rint(np.abs(q)), q[:2005] == 1,
                  (q[:2000] * np.float32(2) + np.float32(0.5)).astype("i4"), np.floor(np.sqrt(y)),
                  x / np.float32(255), x / np.float32(-0.3)]
        for seed in (None, 0, 1):
            with emulator.imprecise(seed):
                *found, mean = sess.run(fetches, {a: x, b: y})
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(one, other)
                assert one.dtype.kind != "f" or np.array_equal(np.signbit(one[~np.isnan(other)]), np.signbit(other[~np.isnan(other)]))
            with emulator.imprecise(None):
                np.testing.assert_array_equal(mean, sess.run(fetches[-1], {a: x, b: y}))


def test_pieces_of_arrays_go_by_neighbours():
    """What a loop keeps of each turn: accesses of 16 bytes, and so few blocks that the pieces of a turn become one launch."""
    def build():
        x = P(f, [6, 8, 128])

        def turn(i, h, *arrays):
            h = tf.tanh(h + x[i])
            return i + 1, h, *[a.write(i, h * float(k + 1)) for k, a in enumerate(arrays)]
        arrays = [tf.TensorArray(f, 6, element_shape=[8, 128]) for _ in range(3)]
        _, h, *arrays = tf.while_loop(lambda i, *rest: i < 6, turn, [tf.constant(0), tf.zeros([8, 128]), *arrays])
        return [h, *[a.stack() for a in arrays]]
    on_both(build)
    with tf.Graph().as_default(), emulated_gpu():
        texts = [k.source for k in tf.explain(build()).kernels if k.source and k.source.startswith("# set")]
    assert texts and all("load_f32" in t and "store_f32" in t for t in texts)
