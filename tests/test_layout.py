"""Layout: programs written channels first lose the transposes between their layers, and keep their values."""
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ops import COVERED, cases, dtype_of
from test_passes import agree, moved_before, program

import graphflow as tf
from graphflow import types
from graphflow.flags import flags
from graphflow.graph import Spec
from graphflow.ops import opdef
from graphflow.passes import pipeline
from graphflow.passes.evaluate import evaluate
from graphflow.passes.layout import inverse, layout, restricted
from graphflow.passes.program import Program
from graphflow.passes.rewrite import op, recording

N = types.symbol("n", 2)
LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # channels first to last, and back
F = types.float32


def transposes(p):
    return [o for o in p.ops() if o.opdef is op.Transpose]


def moved_elements(p):
    """Elements that the program's transposes move, those of one tensor in one order counted once.

    What is made of constants and of variables that the program does not write is moved once for all steps: it does not count.
    """
    written, found = {v for v, _ in p.writes}, {}
    varies = {t for kind, what, t in p.inputs if kind != "variable" or what in written}
    for o in p.ops():
        if any(t in varies for t in o.inputs):
            varies.update(o.outputs)
    for o in transposes(p):
        x, perm = o.inputs[0], full_perm(o)
        order = tuple(a for a in perm if x.sizes[a] != 1)
        if order != tuple(sorted(order)) and x in varies:
            found[x, order] = types.hint(types.product(x.sizes))
    return sum(found.values())


def full_perm(o):
    rank = len(o.inputs[0].sizes)
    return tuple(reversed(range(rank))) if o.attrs["perm"] is None else tuple(a % rank for a in o.attrs["perm"])


def feeds_only(p):
    """Whether every transpose that is left is one of something from outside."""
    return all(o.inputs[0].op.opdef is opdef.StandIn for o in transposes(p))


# ---------------------------------------------------------------- what an op says of its axes


@pytest.mark.parametrize("o", [o for o in COVERED if o._axes is not None], ids=lambda o: o.type)
def test_an_op_made_in_another_order(o):
    """For every call in the registry and some orders: the op on transposed inputs is the transposed result."""
    tried = 0
    for args, attrs in cases(o):
        with opdef.scratch():
            inputs = [opdef.constant(np.asarray(a), dtype_of(a)) for a in args]
            y = o(*inputs, **attrs)
        axes = o._axes(y.op)
        if axes is None:
            continue
        rank = len({a for along in (axes.output, *axes.inputs) if along is not None for a in along})
        for order in list(permutations(range(rank)))[1::2]:
            with opdef.scratch():
                new = [t if along is None else operand(t, along, order, axes.aligned) for t, along in zip(y.op.inputs, axes.inputs)]
                found = axes.make(order, new)
                expected = op.Transpose(y, perm=restricted(order, axes.output))
            a, b = evaluate(Program((), (found, expected)), {})
            assert a.shape == b.shape and found.dtype is expected.dtype
            np.testing.assert_allclose(a.astype(complex), b.astype(complex), rtol=1e-2 if y.dtype.size == 2 else 1e-5, atol=1e-6)
            tried += 1
    assert tried or o.type in ("Fill", "Squeeze", "ExpandDims", "Tile") or all(np.ndim(a) < 2 for args, _ in cases(o) for a in args)


def operand(t, along, order, aligned):
    t = op.Transpose(t, perm=restricted(order, along))
    if not aligned:
        return t
    sizes, kept = iter(t.sizes), [a in along for a in order]
    return op.Reshape(t, opdef.constant(np.array([next(sizes) if k else 1 for k in kept], np.int32)))


# ---------------------------------------------------------------- small programs


def pooled(x):
    """A layer that wants channels last, written channels first."""
    return op.Transpose(op.MaxPool(op.Transpose(x, perm=LAST), window=(2, 2), strides=(1, 1), padding="SAME"), perm=FIRST)


X = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)


def channels(*shape):
    return opdef.constant(np.linspace(-1, 2, int(np.prod(shape))).reshape(shape), F)


def grouped(x):
    """Group norm's way: [n, 6, 4, 5] as [n, 2, 3, 4, 5], less the largest of each group."""
    split = op.Reshape(x, opdef.constant([-1, 2, 3, 4, 5]))
    return op.Reshape(op.Sub(split, op.Max(split, axis=(2, 3, 4), keepdims=True)), opdef.constant([-1, 6, 4, 5]))


BETWEEN = {
    "one op": lambda x: op.Relu(x),
    "a chain": lambda x: op.Tanh(op.Neg(op.Exp(op.Tanh(x)))),
    "a vector of channels": lambda x: op.Add(op.Mul(x, channels(3, 1, 1)), channels(1, 3, 1, 1)),
    "a vector along the width": lambda x: op.Mul(x, channels(5)),
    "a constant of all axes but the batch": lambda x: op.Mul(x, channels(3, 4, 5)),
    "a residual": lambda x: op.Add(x, pooled(op.Tanh(x))),
    "batch statistics": lambda x: op.Sub(x, op.ExpandDims(op.ExpandDims(op.Sum(x, axis=(0, 2, 3), keepdims=False), axis=1), axis=2)),
    "statistics of channels": lambda x: op.Sub(x, op.Max(x, axis=(1,), keepdims=True)),
    "concat of channels": lambda x: op.ConcatV2(x, op.Neg(x), axis=1),
    "concat, axis from the end": lambda x: op.ConcatV2(x, op.Neg(x), axis=-3),
    "pad": lambda x: op.PadV2(x, opdef.constant(np.array([[0, 0], [1, 2], [0, 1], [3, 0]], np.int32))),
    "pad with the mirror": lambda x: op.MirrorPad(x, opdef.constant(np.array([[0, 0], [0, 0], [0, 1], [2, 0]], np.int32)), mode="REFLECT"),
    "slice": lambda x: op.Slice(x, opdef.constant(np.array([0, 1, 0, 2], np.int32)), opdef.constant(np.array([2, 2, 3, 1], np.int32))),
    "strided slice": lambda x: op.StridedSlice(x, spec=(("e",), ("s", None, None, 2), ("s", 3, 0, -1))),
    "reverse": lambda x: op.ReverseV2(x, axis=(1, -1)),
    "running sum": lambda x: op.Cumsum(x, axis=1, exclusive=False, reverse=False),
    "broadcast": lambda x: op.Add(x, op.BroadcastTo(channels(1, 3, 1, 1), opdef.constant(np.array(X.shape, np.int32)))),
    "groups of channels": lambda x: grouped(op.ConcatV2(x, op.Exp(op.Neg(op.Tanh(x))), axis=1)),
    "places in one axis": lambda x: op.Reshape(
        op.Cumsum(op.Reshape(x, opdef.constant([-1, 3, 20])), axis=2, exclusive=False, reverse=False), opdef.constant([-1, 3, 4, 5])),
    "zeros": lambda x: op.Select(op.Greater(x, op.ZerosLike(x)), x, op.OnesLike(x)),
}


NUMBERS = ("slice", "broadcast")  # the size of the batch is written in these


@pytest.mark.parametrize("name, symbolic", [(n, s) for n in BETWEEN for s in (False, True) if not s or n not in NUMBERS])
def test_between_two_layers_nothing_is_transposed(name, symbolic):
    p = program(lambda x: pooled(BETWEEN[name](pooled(x))), (F, (N if symbolic else 2, 3, 4, 5)))
    with types.recording_guards():
        q = layout(p)
        agree(p, q, X, tolerance=1e-5)
    left = [o for o in transposes(q) if o.inputs[0].op.opdef is not opdef.StandIn]
    assert len(left) == 1 and left[0] is q.outputs[0].op  # the fetch


def test_a_mean_of_the_image_needs_no_transpose():
    p = program(lambda x: op.Sum(op.Relu(pooled(x)), axis=(2, 3), keepdims=False), X)
    q = layout(p)
    agree(p, q, X, tolerance=1e-5)
    assert len(transposes(q)) == 1 and feeds_only(q)


def test_sizes_of_one_move_for_nothing():
    """[n, c, 1, 1] lies in memory as [n, 1, 1, c] does."""
    squeeze = lambda x: op.Sigmoid(op.Mul(op.Sum(x, axis=(2, 3), keepdims=True), 0.1))  # noqa: E731
    p = program(lambda x: (lambda h: pooled(op.Mul(h, squeeze(h))))(pooled(x)), X)
    q = layout(p)
    agree(p, q, X, tolerance=1e-5)
    assert len(transposes(q)) == 2


def test_the_last_axes_are_flattened_in_the_order_they_had():
    p = program(lambda x: op.Reshape(op.Relu(op.Relu6(pooled(op.Relu(pooled(x))))), opdef.constant(np.array([2, 60], np.int32))), X)
    q = layout(p)
    agree(p, q, X)
    assert len(transposes(q)) == 2


def test_three_dimensions_of_space():
    x = np.random.default_rng(1).normal(size=(2, 3, 3, 4, 2)).astype(np.float32)

    def layer(t):
        t = op.Transpose(t, perm=(0, 2, 3, 4, 1))
        return op.Transpose(op.MaxPool(t, window=(2, 1, 2), strides=(1, 1, 1), padding="SAME"), perm=(0, 4, 1, 2, 3))

    p = program(lambda t: layer(op.Relu(layer(t))), x)
    q = layout(p)
    agree(p, q, x)
    assert len(transposes(q)) == 2


def test_a_transpose_is_made_once_for_all_who_need_it():
    p = program(lambda x: [op.Reshape(op.Transpose(x, perm=LAST), opdef.constant(np.array([-1], np.int32))) for _ in range(3)], X)
    q = layout(p)
    agree(p, q, X)
    assert moved_elements(q) == X.size


def test_variables_are_transposed_once_and_not_in_the_middle():
    """What depends on variables that stay as they are costs nothing: the prologue of the plan does it."""
    with opdef.scratch() as g:
        x, v = g.stand_in(Spec(F, (2, 3, 4, 5))), g.stand_in(Spec(F, (2, 3, 4, 5)))
        y = pooled(op.Add(pooled(x), op.Exp(v)))
    p = Program((("feed", x, x), ("variable", "v", v)), (y,))
    q = layout(p)
    agree(p, q, X, X * 0.5)
    assert {o.inputs[0] for o in transposes(q)} == {x, v, q.outputs[0].op.inputs[0]}


def test_a_constant_is_turned_while_compiling():
    q = layout(program(lambda x: pooled(op.Mul(pooled(x), channels(2, 3, 4, 5))), X))
    assert len(transposes(q)) == 2 and {o.inputs[0].sizes for o in q.ops() if o.type == "Mul"} == {(2, 4, 5, 3)}


def test_where_nothing_is_gained_the_program_stays_the_same():
    flat = opdef.constant(np.array([-1], np.int32))
    for build in (lambda x: op.Reshape(op.Transpose(op.Relu(x), perm=LAST), flat),  # before or after: the same
                  lambda x: op.Sum(op.Mul(op.Transpose(x, perm=LAST), op.Reshape(x, opdef.constant(np.array([2, 4, 5, 3], np.int32)))),
                                   axis=None, keepdims=False),
                  lambda x: op.Tanh(op.Reshape(x, flat))):
        p = program(build, X)
        assert layout(p) is p


def test_without_transposes_a_large_program_is_only_looked_at(monkeypatch):
    def build(x):
        for _ in range(5000):
            x = op.Tanh(x)
        return x

    p = program(build, X)
    monkeypatch.setattr("graphflow.passes.layout._Plan", None)  # any use would raise
    assert layout(p) is p


def test_what_changed_is_recorded_by_the_names_of_the_user():
    x = tf.placeholder(F, X.shape)
    y = tf.nn.relu(tf.nn.max_pool(x, 2, 1, "SAME", data_format="NCHW"), name="middle")
    y = tf.nn.max_pool(y, 2, 1, "SAME", data_format="NCHW")
    e = tf.explain(y, {x: X})
    assert "layout: axes in the order of their neighbours" in e.passes.rules_of("middle")
    with recording() as found:
        layout(program(lambda x: op.Relu(x), X))
    assert not found


def test_the_place_of_the_pass():
    """Before decompose it cannot look into a bias; after algebra, a transpose that it brings to a product is not made a flag there."""
    p = program(lambda x, b: pooled(op.BiasAdd(pooled(x), b, data_format="NCHW")), X, np.ones(3, np.float32))
    assert len(transposes(pipeline.run(p))) == 2
    assert len(transposes(pipeline.run(p, passes=moved_before("layout", "decompose")))) > 2
    square = np.eye(4, dtype=np.float32)
    p = program(lambda a, b: op.MatMul(op.Add(op.Transpose(a), op.Transpose(b)), a), square, square)
    assert not transposes(pipeline.run(p))
    assert transposes(pipeline.run(p, passes=moved_before("layout", "bypass last")))


# ---------------------------------------------------------------- random programs


@st.composite
def random_program(draw):
    """A graph of transposes, of ops that can be made in any order, and of some that cannot."""
    symbolic = draw(st.booleans())
    first = (N if symbolic else 2, 3, draw(st.sampled_from([1, 2, 4])), 5)
    with opdef.scratch() as g:
        x, v = g.stand_in(Spec(F, first)), g.stand_in(Spec(F, first[1:]))
        perm = tuple(draw(st.sampled_from([LAST, FIRST, (3, 2, 1, 0), (0, 1, 3, 2)])))
        pool = [v, x, op.Transpose(x, perm=perm)]
        for _ in range(draw(st.integers(2, 14))):
            found = step(draw, pool)
            if found is not None and len(found.sizes) <= 5 and types.hint(types.product(found.sizes)) < 2000:
                pool.append(found)
        outs = tuple([op.Transpose(t, perm=inverse(perm)) if len(t.sizes) == 4 and draw(st.integers(0, 3)) else t
                      for t in draw(st.lists(st.sampled_from(pool[-3:]), min_size=1, max_size=3, unique=True))])
    shape = tuple(map(types.hint, first))
    arrays = [np.linspace(-2, 2, int(np.prod(s))).reshape(s).astype(np.float32) for s in (shape, shape[1:])]
    return Program((("feed", x, x), ("variable", "v", v)), outs), arrays


def step(draw, pool):
    t = draw(st.sampled_from(pool[-2:]))
    rank = len(t.sizes)
    axis = draw(st.integers(0, max(rank - 1, 0)))
    kind = draw(st.sampled_from(["transpose", "unary", "binary"] * 3 + [
        "vector", "sum", "max", "expand", "squeeze", "concat", "pad", "slice", "take", "stack", "reverse", "cumsum", "like", "flat", "flat",
        "zeros"]))
    if kind == "unary":
        return draw(st.sampled_from([op.Tanh, op.Neg, op.Relu]))(t)
    if kind == "zeros":
        return op.Maximum(op.ZerosLike(t), t)
    if kind == "binary":
        fitting = [u for u in pool if u.sizes[-rank:] == t.sizes or t.sizes[-len(u.sizes):] == u.sizes]
        return op.Sub(t, draw(st.sampled_from(fitting)))
    if rank == 0:
        return None
    known = all(isinstance(n, int) for n in t.sizes)
    if kind == "transpose":
        return op.Transpose(t, perm=tuple(draw(st.permutations(range(rank)))))
    if kind == "vector":
        sizes = [n if isinstance(n, int) and draw(st.booleans()) else 1 for n in t.sizes][draw(st.integers(0, rank - 1)):]
        return op.Mul(t, channels(*sizes))
    if kind in ("sum", "max"):
        axes = tuple(draw(st.lists(st.integers(0, rank - 1), min_size=1, max_size=2, unique=True)))
        return (op.Sum if kind == "sum" else op.Max)(t, axis=axes, keepdims=draw(st.booleans()))
    if kind == "expand":
        return op.ExpandDims(t, axis=draw(st.integers(0, rank)))
    if kind == "squeeze":
        return op.Squeeze(t) if 1 in t.sizes and known else None
    if kind == "concat":
        return op.ConcatV2(t, op.Neg(t), axis=axis)
    if kind == "stack":
        return op.Pack(t, op.Tanh(t), axis=axis)
    if kind == "pad":
        return op.PadV2(t, opdef.constant(np.eye(rank, 2, k=0, dtype=np.int32)[list(range(rank))]))
    if kind == "slice":
        spec = [("s", None, None, 1)] * rank
        spec[axis] = ("s", None, None, draw(st.sampled_from([2, -1])))
        return op.StridedSlice(t, spec=tuple(spec))
    if kind == "take":
        spec = [("s", None, None, 1)] * rank
        spec[axis] = ("i", 0)
        return op.StridedSlice(t, spec=tuple(spec))
    if kind == "reverse":
        return op.ReverseV2(t, axis=(axis,))
    if kind == "cumsum":
        return op.Cumsum(t, axis=axis, exclusive=draw(st.booleans()), reverse=False)
    if kind == "like":
        return op.BroadcastLike(op.Sum(t, axis=(axis,), keepdims=True), t)
    if known and kind == "flat":
        sizes = draw(st.sampled_from([t.sizes[::-1], [-1], [*t.sizes[:1], -1], [*t.sizes[:-2], -1], [*t.sizes[:1], 1, *t.sizes[1:]],
                                      [n for s in t.sizes for n in ((2, s // 2) if s % 2 == 0 else (s,))]]))
        return op.Reshape(t, opdef.constant(np.array(sizes, np.int32)))
    return None


@settings(max_examples=300)
@given(random_program())
def test_random_programs_keep_their_values_and_move_no_more(case):
    p, arrays = case
    with types.recording_guards():
        q = layout(p)
        agree(p, q, *arrays, tolerance=2e-4)
    assert q is p or moved_elements(q) < moved_elements(p)
    assert [t.sizes for t in q.outputs] == [t.sizes for t in p.outputs]


# ---------------------------------------------------------------- networks


def blocks(fmt, batch=2, size=8):
    """Three residual blocks with batch norm and pooling, and a training step: (x, y, loss, train, gradients)."""
    first, rng = fmt == "NCHW", np.random.default_rng(0)
    x = tf.placeholder(F, [batch, 3, size, size] if first else [batch, size, size, 3])
    y = tf.placeholder(tf.int32, [batch])

    def along(n):
        return [1, 1, n, n] if first else [1, n, n, 1]

    def conv(h, inner, outer, name):
        w = tf.get_variable(name, initializer=rng.normal(size=(3, 3, inner, outer)).astype(np.float32) * 0.2)
        h = tf.nn.conv2d(h, w, along(1), "SAME", data_format=fmt)
        return tf.nn.bias_add(h, tf.get_variable(name + "_b", initializer=rng.normal(size=outer).astype(np.float32)), data_format=fmt)

    def norm(h, name):
        scale = tf.get_variable(name + "_s", initializer=rng.uniform(0.5, 1.5, 4).astype(np.float32))
        offset = tf.get_variable(name + "_o", initializer=np.zeros(4, np.float32))
        return tf.nn.fused_batch_norm(h, scale, offset, data_format=fmt)[0]

    h = conv(x, 3, 4, "c")
    for k in range(3):
        middle = tf.nn.relu(norm(conv(h, 4, 4, f"a{k}"), f"a{k}"))
        h = tf.nn.relu(norm(conv(middle, 4, 4, f"b{k}"), f"b{k}") + h)
        if k < 2:
            h = (tf.nn.max_pool, tf.nn.avg_pool)[k](h, along(3 - k), along(2), "SAME", data_format=fmt)
    features = tf.reduce_mean(h, [2, 3] if first else [1, 2])
    logits = tf.matmul(features, tf.get_variable("fc", initializer=rng.normal(size=(4, 10)).astype(np.float32)))
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
    dx, = tf.gradients(loss, x)
    return x, y, loss, tf.train.MomentumOptimizer(0.05, 0.9).minimize(loss), dx


def steps(fmt, image, **switches):
    tf.reset_default_graph()
    x, y, loss, train, _ = blocks(fmt)
    with flags.override(**switches), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        feed = {x: image.transpose(0, 3, 1, 2) if fmt == "NCHW" else image, y: np.array([3, 7])}
        losses = [sess.run([loss, train], feed)[0] for _ in range(3)]
        return losses, [sess.run(v) for v in tf.trainable_variables()]


IMAGE = np.random.default_rng(3).normal(size=(2, 8, 8, 3)).astype(np.float32)


def test_a_training_step_written_channels_first():
    x, y, loss, train, _ = blocks("NCHW")
    e = tf.explain([loss, train], {x: IMAGE.transpose(0, 3, 1, 2), y: np.array([3, 7])})
    left = [o for o in e.optimized.ops if o.type == "Transpose"]
    assert [o.inputs[0].op.type for o in left] == ["StandIn"]
    tf.reset_default_graph()
    x, y, loss, train, _ = blocks("NHWC")
    last = tf.explain([loss, train], {x: IMAGE, y: np.array([3, 7])})
    assert len(e.kernels) <= len(last.kernels) + 1


def test_its_values_are_those_of_channels_last_and_of_no_optimisation():
    found = [steps("NCHW", IMAGE), steps("NHWC", IMAGE), steps("NCHW", IMAGE, optimize=0)]
    for losses, weights in found[1:]:
        np.testing.assert_allclose(losses, found[0][0], rtol=2e-4)
        for a, b in zip(weights, found[0][1], strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_the_gradient_of_the_image_is_transposed_when_it_is_fetched():
    x, y, loss, _, dx = blocks("NCHW")
    image = IMAGE.transpose(0, 3, 1, 2)
    e = tf.explain([loss, dx], {x: image, y: np.array([3, 7])})
    left = [o for o in e.optimized.ops if o.type == "Transpose"]
    assert len(left) == 2 and sum(o.inputs[0].op.type == "StandIn" for o in left) == 1
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        found = sess.run(dx, {x: image, y: np.array([3, 7])})
        with flags.override(optimize=0):
            np.testing.assert_allclose(found, sess.run(dx, {x: image, y: np.array([3, 7])}), rtol=1e-3, atol=1e-5)


def test_what_looks_at_a_tensor_sees_the_order_of_the_user():
    """A py_func between two layers, and an assertion that the rest waits for."""
    seen = []
    x = tf.placeholder(F, [None, 3, 4, 5])
    h = tf.nn.relu(tf.nn.max_pool(x, 2, 1, "SAME", data_format="NCHW"))
    told = tf.py_func(lambda a: seen.append(a.shape), [h], [])
    with tf.control_dependencies([told, tf.Assert(tf.reduce_all(h >= 0), [h])]):
        y = tf.nn.max_pool(tf.identity(h) * 2.0, 2, 1, "SAME", data_format="NCHW")
    with tf.Session() as sess:
        found = sess.run(y, {x: X})
        with flags.override(optimize=0):
            np.testing.assert_array_equal(found, sess.run(y, {x: X}))
    assert seen == [(2, 3, 4, 5)] * 2


# ---------------------------------------------------------------- what the API accepts

RNG = np.random.default_rng(4)
W = RNG.normal(size=(3, 2, 3, 6)).astype(np.float32)
D = RNG.normal(size=(3, 2, 3, 2)).astype(np.float32)
V = [RNG.uniform(0.5, 1.5, 3).astype(np.float32) for _ in range(4)]


def window(fmt, n):
    return [1, 1, n, n] if fmt == "NCHW" else [1, n, n, 1]


API = {
    "conv2d": lambda x, f: tf.nn.conv2d(x, W, window(f, 2), "SAME", data_format=f),
    "conv2d, dilated": lambda x, f: tf.nn.conv2d(x, W, 1, "VALID", data_format=f, dilations=window(f, 2)),
    "conv2d, explicit padding": lambda x, f: tf.nn.conv2d(
        x, W, 1, [[0, 0], [0, 0], [1, 2], [0, 1]] if f == "NCHW" else [[0, 0], [1, 2], [0, 1], [0, 0]], data_format=f),
    "depthwise_conv2d": lambda x, f: tf.nn.depthwise_conv2d(x, D, window(f, 1), "SAME", data_format=f),
    "depthwise_conv2d_native": lambda x, f: tf.nn.depthwise_conv2d_native(x, D, window(f, 2), "VALID", data_format=f),
    "separable_conv2d": lambda x, f: tf.nn.separable_conv2d(x, D, W[:1, :1].repeat(2, 2), window(f, 1), "SAME", data_format=f),
    "max_pool": lambda x, f: tf.nn.max_pool(x, window(f, 3), window(f, 2), "SAME", data_format=f),
    "avg_pool": lambda x, f: tf.nn.avg_pool(x, window(f, 2), window(f, 2), "VALID", data_format=f),
    "pool": lambda x, f: tf.nn.pool(x, [2, 2], "MAX", "SAME", strides=[2, 1], data_format=f),
    "bias_add": lambda x, f: tf.nn.bias_add(x, V[0], data_format=f),
    "fused_batch_norm": lambda x, f: tf.nn.fused_batch_norm(x, V[0], V[1], data_format=f)[0],
    "fused_batch_norm, inference": lambda x, f: tf.nn.fused_batch_norm(x, *V, data_format=f, is_training=False)[0],
    "space_to_depth": lambda x, f: tf.space_to_depth(x, 2, data_format=f),
    "layers.conv2d": lambda x, f: tf.layers.conv2d(x, 4, 3, 2, "same", long(f), activation=tf.nn.relu, kernel_initializer=ones()),
    "layers.conv2d_transpose": lambda x, f: tf.layers.conv2d_transpose(x, 4, 3, 2, "same", long(f), kernel_initializer=ones()),
    "layers.separable_conv2d": lambda x, f: tf.layers.separable_conv2d(x, 4, 3, 1, "same", long(f), depthwise_initializer=ones(),
                                                                       pointwise_initializer=ones()),
    "layers.max_pooling2d": lambda x, f: tf.layers.max_pooling2d(x, 2, 2, "same", long(f)),
    "layers.average_pooling2d": lambda x, f: tf.layers.average_pooling2d(x, 2, 1, "valid", long(f)),
    "layers.batch_normalization": lambda x, f: tf.layers.batch_normalization(x, axis=1 if f == "NCHW" else -1, training=True),
    "layers.flatten": lambda x, f: tf.layers.flatten(x, data_format=long(f)),
}


def long(fmt):
    return "channels_first" if fmt.startswith("NC") else "channels_last"


def ones():
    return tf.constant_initializer(np.linspace(-1, 1, 5)[:1] + 0.5)


def both(build, image, first, last):
    """Values of a call in both formats, those of the channels-first one with the channels moved last, and of its gradient."""
    out = []
    rank = image.ndim
    turn = (0, rank - 1, *range(1, rank - 1))
    back = (0, *range(2, rank), 1)
    for fmt in (first, last):
        tf.reset_default_graph()
        x = tf.placeholder(F, [None, *(image.transpose(turn) if fmt == first else image).shape[1:]])
        y = build(x, fmt)
        dx, = tf.gradients(tf.reduce_sum(y * y), x)
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            found = sess.run([y, dx], {x: image.transpose(turn) if fmt == first else image})
        out.append([a.transpose(back) if fmt == first and a.ndim == rank else a for a in found])
    return out


@pytest.mark.parametrize("name", API)
def test_channels_first_is_accepted(name):
    image = RNG.normal(size=(2, 6, 4, 3)).astype(np.float32)
    for a, b in zip(*both(API[name], image, "NCHW", "NHWC"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


SPACE = {
    "conv3d": lambda x, f: tf.nn.conv3d(x, W.reshape(3, 2, 1, 3, 6), [1, 1, 1, 1, 1], "SAME", data_format=f),
    "max_pool3d": lambda x, f: tf.nn.max_pool3d(x, [1, 1, 2, 2, 2] if f == "NCDHW" else [1, 2, 2, 2, 1],
                                                [1, 1, 1, 2, 1] if f == "NCDHW" else [1, 1, 2, 1, 1], "SAME", data_format=f),
    "avg_pool3d": lambda x, f: tf.nn.avg_pool3d(x, 2, 2, "SAME", data_format=f),
    "bias_add": lambda x, f: tf.nn.bias_add(x, V[0], data_format=f),
    "layers.conv3d": lambda x, f: tf.layers.conv3d(x, 4, 2, 1, "same", long(f), kernel_initializer=ones()),
    "layers.max_pooling3d": lambda x, f: tf.layers.max_pooling3d(x, 2, 2, "same", long(f)),
}


@pytest.mark.parametrize("name", SPACE)
def test_channels_first_is_accepted_in_space(name):
    image = RNG.normal(size=(2, 3, 4, 3, 3)).astype(np.float32)
    for a, b in zip(*both(SPACE[name], image, "NCDHW", "NDHWC"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", [lambda x: tf.nn.conv2d(x, W, 1, "SAME", data_format="NCWH"),
                                   lambda x: tf.nn.max_pool(x, 2, 2, "SAME", data_format="channels_first"),
                                   lambda x: tf.nn.bias_add(x, V[0], data_format="CHW"),
                                   lambda x: tf.layers.conv2d(x, 4, 3, data_format="NCHW")])
def test_an_unknown_format_is_refused(build):
    with pytest.raises(ValueError, match="data_format"):
        build(tf.placeholder(F, [2, 3, 6, 4]))
