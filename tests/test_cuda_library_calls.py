"""Contractions described as library calls: what a description says, computed with NumPy, is what the op means."""
from __future__ import annotations

from itertools import product as cartesian

import numpy as np
import pytest

import graphflow as tf
from graphflow import types
from graphflow.codegen import contract, ir
from graphflow.codegen.cuda import library_calls
from graphflow.codegen.cuda.library_calls import Convolution, Matmul, View
from graphflow.codegen.ir import Buffer
from graphflow.flags import flags
from graphflow.ops.contraction import conv

# ---------------------------------------------------------------- a description's meaning


def positions(v: View) -> np.ndarray:
    """The element that each index of a view stands for."""
    at = np.full(v.sizes, v.offset, np.int64)
    for d, (n, step) in enumerate(zip(v.sizes, v.strides)):
        at += (np.arange(n) * step).reshape([-1 if i == d else 1 for i in range(len(v.sizes))])
    return at


def taken(v: View, flat: np.ndarray) -> np.ndarray:
    at = positions(v)
    assert at.size == 0 or 0 <= at.min() and at.max() < flat.size
    return flat[at]


def filled(v: View, values: np.ndarray) -> np.ndarray:
    """The result's memory; every element must be written once."""
    at = positions(v).reshape(-1)
    assert sorted(at) == list(range(at.size)), "a result is packed and written once"
    out = np.empty(at.size, values.dtype)
    out[at] = np.broadcast_to(values, v.sizes).reshape(-1)
    return out


def matmul(d: Matmul, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return filled(d.c, np.matmul(taken(d.a, a), taken(d.b, b)))


def convolution(d: Convolution, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """By the definition, tap by tap; the gradients are its transposes."""
    x, w, y = (None if v is d.result else taken(v, flat) for v, flat in zip((d.x, d.w, d.y), operands(d, first, second)))
    n, rank = d.x.sizes[0], len(d.strides)
    spatial, windows, taps = d.x.sizes[2:], d.y.sizes[2:], d.w.sizes[2:]
    for size, count, tap, s, t, (lo, hi) in zip(spatial, windows, taps, d.strides, d.dilations, d.pads):
        assert lo >= 0 and hi >= 0 and (size + lo + hi - (tap - 1) * t - 1) // s + 1 == count, "a library's formula gives this size"
    assert d.x.sizes[1] == d.w.sizes[1] * d.groups and d.w.sizes[0] == d.y.sizes[1] and d.w.sizes[0] % d.groups == 0
    dtype = d.compute.np
    padded = np.zeros((n, d.x.sizes[1], *[a + lo + hi for a, (lo, hi) in zip(spatial, d.pads)]), dtype)
    inside = (slice(None), slice(None), *[slice(lo, lo + a) for a, (lo, _) in zip(spatial, d.pads)])
    if x is not None:
        padded[inside] = x
    out = np.zeros(d.result.sizes, dtype)
    per_in, per_out = d.w.sizes[1], d.w.sizes[0] // d.groups
    for tap in cartesian(*map(range, taps)):
        place = tuple(slice(t * dil, t * dil + (c - 1) * s + 1, s) for t, dil, c, s in zip(tap, d.dilations, windows, d.strides))
        for g in range(d.groups):
            cs, ks = slice(g * per_in, (g + 1) * per_in), slice(g * per_out, (g + 1) * per_out)
            here = (slice(None), slice(None), *tap)
            if d.kind == "forward":
                out[:, ks] += np.einsum("nc...,kc->nk...", padded[(slice(None), cs, *place)], w[here][ks])
            elif d.kind == "data":
                padded[(slice(None), cs, *place)] += np.einsum("nk...,kc->nc...", y[:, ks], w[here][ks])
            else:
                part = padded[(slice(None), cs, *place)].reshape(n, per_in, -1)
                out[(ks, slice(None), *tap)] = np.einsum("nkp,ncp->kc", y[:, ks].reshape(n, per_out, -1), part)
    assert rank in (2, 3)
    return filled(d.result, padded[inside] if d.kind == "data" else out)


def operands(d: Convolution, first: np.ndarray, second: np.ndarray) -> tuple:
    return {"forward": (first, second, None), "data": (None, first, second), "filter": (first, None, second)}[d.kind]


# ---------------------------------------------------------------- from the public API


def described(t: tf.Tensor) -> tuple:
    """(the contraction that makes `t`, its description, tensor of each buffer)."""
    op = t.op
    while op.opdef.family != "contraction":
        op = op.inputs[0].op
    buffers: dict = {}

    def leaf(t, index):
        return None if contract._looked_through(t) else ir.load(buffers.setdefault(t, Buffer(t.dtype, t.sizes, "in", t.op.name)), index)
    p = contract.product(op, leaf)
    return op, None if p is None else library_calls.from_product(p, op.outputs[0].dtype), {b: t for t, b in buffers.items()}


def compared(t: tf.Tensor, kind: str, seed: int = 0):
    """Recognised as `kind`, and what the description computes is what the reference interpreter gives."""
    op, d, tensors = described(t)
    assert d is not None, f"{op.type} is not recognised"
    assert (d.kind if isinstance(d, Convolution) else "matmul") == kind
    rng = np.random.default_rng(seed)
    feeds = {x: rng.integers(-3, 4, x.sizes).astype(x.dtype.np) for x in tensors.values()}
    with flags.override(interpret=1), tf.Session(graph=t.graph) as s:
        expected = s.run(op.outputs[0], feeds)
    reads = [feeds[tensors[b]].astype(d.compute.np).reshape(-1) for b in d.reads]
    found = matmul(d, *reads) if kind == "matmul" else convolution(d, *reads)
    assert np.array_equal(found, expected.astype(found.dtype).reshape(-1))
    return d


def ph(*shape, dtype=tf.float32):
    return tf.placeholder(dtype, shape)


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        yield


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
def test_matmul_in_all_transposes_and_its_gradients(ta, tb):
    a, b = ph(*((7, 5) if ta else (5, 7))), ph(*((6, 7) if tb else (7, 6)))
    c = tf.matmul(a, b, ta, tb)
    compared(c, "matmul")
    for g in tf.gradients(c, [a, b], grad_ys=ph(5, 6)):
        compared(g, "matmul")


def test_batches_broadcasts_and_outer_axes():
    d = compared(tf.matmul(ph(2, 3, 4, 5), ph(2, 3, 5, 6)), "matmul")
    assert d.c.sizes == (6, 4, 6)  # adjacent batches are one
    d = compared(tf.matmul(ph(2, 3, 4, 5), ph(3, 5, 6)), "matmul")
    assert d.c.sizes == (3, 2, 4, 6) or d.c.sizes == (2, 3, 4, 6) and d.b.strides[0] == 0
    d = compared(tf.matmul(ph(2, 3, 4, 5), ph(1, 1, 5, 6)), "matmul")
    assert d.c.sizes == (24, 6)  # rows of one matrix
    d = compared(tf.einsum("bqhd,bkhd->bhqk", ph(2, 10, 4, 8), ph(2, 12, 4, 8)), "matmul")
    assert d.a.strides[-2:] == (32, 1) and d.b.strides[-2:] == (1, 32)
    compared(tf.tensordot(ph(2, 6, 7), ph(6, 7, 3), 2), "matmul")
    compared(tf.matmul(tf.transpose(ph(4, 5, 3), [2, 0, 1]), ph(3, 5, 6)), "matmul")
    compared(tf.matmul(tf.reshape(ph(4, 3, 5), [12, 5]), ph(5, 6)), "matmul")


def test_the_dtypes_of_memory_and_of_the_result():
    d = compared(tf.matmul(ph(4, 8, dtype=tf.float16), ph(8, 5, dtype=tf.float16)), "matmul")
    assert (d.a.dtype.name, d.c.dtype.name, d.compute.name) == ("float16", "float16", "float32")
    d = compared(tf.matmul(tf.cast(ph(4, 8, dtype=tf.float16), tf.float32), tf.cast(ph(8, 5, dtype=tf.float16), tf.float32)), "matmul")
    assert (d.a.dtype.name, d.c.dtype.name) == ("float16", "float32")
    assert compared(tf.matmul(ph(4, 8, dtype=tf.float64), ph(8, 5, dtype=tf.float64)), "matmul").compute is types.float64
    assert described(tf.matmul(ph(4, 8, dtype=tf.int32), ph(8, 5, dtype=tf.int32)))[1] is None
    assert described(tf.matmul(tf.cast(ph(4, 8, dtype=tf.float16), tf.float32), ph(8, 5)))[1] is None  # two dtypes


CONVOLUTIONS = [  # image (NHWC), filter, strides, padding, dilations
    ((2, 9, 8, 3), (3, 3, 3, 4), (1, 1), "SAME", (1, 1)), ((2, 9, 8, 3), (3, 3, 3, 4), (2, 2), "SAME", (1, 1)),
    ((2, 9, 14, 3), (3, 3, 3, 4), (2, 3), "VALID", (1, 1)), ((2, 11, 10, 3), (3, 2, 3, 4), (1, 1), "SAME", (2, 3)),
    ((2, 11, 10, 3), (3, 3, 3, 4), (1, 1), "VALID", (2, 2)), ((1, 9, 8, 3), (3, 3, 3, 4), (1, 1), "SAME", (1, 1)),
    ((2, 9, 8, 1), (3, 3, 1, 4), (1, 1), "SAME", (1, 1)), ((2, 9, 8, 3), (1, 3, 3, 4), (1, 1), "SAME", (1, 1)),
    ((2, 13, 8, 3), (5, 1, 3, 4), (2, 1), "SAME", (1, 1)), ((1, 15, 14, 3), (7, 7, 3, 4), (2, 2), "SAME", (1, 1)),
    ((2, 9, 9, 3), (2, 2, 3, 4), (3, 3), "VALID", (1, 1)), ((2, 9, 8, 3), (1, 1, 3, 4), (2, 2), "SAME", (1, 1))]


@pytest.mark.parametrize("format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolutions_and_both_gradients(case, format):
    xs, ws, strides, padding, dilations = case
    order = (0, 1, 2, 3) if format == "NHWC" else (0, 3, 1, 2)
    spread = lambda two: [(1, *two, 1)[i] for i in order]  # noqa: E731
    x, w = ph(*[xs[i] for i in order]), ph(*ws)
    y = tf.nn.conv2d(x, w, spread(strides), padding, data_format=format, dilations=spread(dilations))
    compared(y, "forward")
    dx, dw = tf.gradients(y, [x, w], grad_ys=ph(*y.shape.as_list()))
    compared(dw, "filter")
    compared(dx, "data")


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_convolutions(multiplier):
    x, w = ph(2, 8, 9, 6), ph(3, 3, 6, multiplier)
    y = tf.nn.depthwise_conv2d(x, w, [1, 2, 2, 1], "SAME")
    assert compared(y, "forward").groups == 6
    dx, dw = tf.gradients(y, [x, w], grad_ys=ph(*y.shape.as_list()))
    assert compared(dx, "data").groups == 6
    assert compared(dw, "filter").groups == 6


@pytest.mark.parametrize("sizes", [(6, 9, 3), (6, 3, 3), (6, 6, 2), (4, 8, 4)])
def test_grouped_convolutions(sizes):
    c, k, groups = sizes
    x, w = ph(2, 8, 9, c), ph(3, 3, c // groups, k)
    y = conv(x, w, strides=(2, 1), padding="SAME", dilations=(1, 1), groups=groups)
    assert compared(y, "forward").groups == groups
    dx, dw = tf.gradients(y, [x, w], grad_ys=ph(*y.shape.as_list()))
    assert compared(dx, "data").groups == groups
    assert compared(dw, "filter").groups == groups


def test_one_and_three_spatial_axes():
    d = compared(tf.nn.conv1d(ph(2, 20, 3), ph(3, 3, 4), 2, "SAME"), "forward")
    assert d.x.sizes == (2, 3, 1, 20) and d.strides == (1, 2)
    x, w = ph(2, 5, 6, 7, 3), ph(3, 2, 3, 3, 4)
    y = tf.nn.conv3d(x, w, [1, 1, 2, 1, 1], "SAME")
    compared(y, "forward")
    dx, dw = tf.gradients(y, [x, w], grad_ys=ph(*y.shape.as_list()))
    compared(dx, "data")
    compared(dw, "filter")


def test_windows_of_lines_are_not_rows_of_a_matrix():
    assert compared(tf.nn.conv1d(ph(2, 20, 3), ph(3, 3, 4), 1, "VALID"), "forward").dilations == (1, 1)
    assert compared(tf.nn.conv2d(ph(2, 8, 20, 3), ph(1, 3, 3, 4), [1, 1, 1, 1], "VALID"), "forward").w.sizes == (4, 3, 1, 3)
    assert compared(tf.nn.conv1d(ph(2, 21, 3), ph(3, 3, 4), 3, "VALID"), "matmul").a.sizes == (14, 9)  # windows side by side


def test_transposed_convolution_and_explicit_padding():
    compared(tf.nn.conv2d_transpose(ph(2, 5, 5, 4), ph(3, 3, 3, 4), [2, 10, 10, 3], [1, 2, 2, 1]), "data")
    x, w = ph(2, 14, 15, 3), ph(7, 7, 3, 4)
    d = compared(tf.nn.conv2d(tf.pad(x, [[0, 0], [3, 3], [3, 3], [0, 0]]), w, [1, 2, 2, 1], "VALID"), "forward")
    assert d.pads == ((3, 3), (3, 3))
    compared(tf.nn.conv2d(tf.pad(x, [[0, 0], [1, 1], [2, 0], [0, 0]]), ph(3, 3, 3, 4), [1, 1, 1, 1], "SAME"), "forward")
    compared(tf.nn.conv2d(x[:, 1:7, :5], ph(3, 3, 3, 4), [1, 1, 1, 1], "VALID"), "forward")


def test_fewer_windows_than_taps():
    """The roles of windows and taps may be exchanged: the sums are the same."""
    y = tf.nn.conv2d(ph(2, 5, 5, 3), ph(3, 4, 3, 4), [1, 1, 1, 1], "VALID")
    d = compared(y, "filter")
    assert (d.x.sizes, d.w.sizes, d.y.sizes) == ((3, 2, 5, 5), (4, 2, 3, 2), (3, 4, 3, 4))


def test_one_by_one_windows_are_matrix_products():
    assert compared(tf.nn.conv2d(ph(2, 6, 7, 3), ph(1, 1, 3, 4), [1, 1, 1, 1], "SAME"), "matmul").a.sizes == (84, 3)
    d = compared(tf.nn.conv2d(ph(2, 3, 6, 7), ph(1, 1, 3, 4), [1, 1, 1, 1], "SAME", data_format="NCHW"), "matmul")
    assert d.a.sizes == (2, 42, 3) and d.a.strides == (126, 1, 42)


def test_what_is_no_library_call():
    x, w = ph(2, 8, 8, 3), ph(3, 3, 3, 4)
    assert described(tf.nn.conv2d(x[:, 1:7], w, [1, 1, 1, 1], "SAME"))[1] is None  # zeros inside the stored image
    assert described(tf.nn.conv2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.0), w, [1, 1, 1, 1], "VALID"))[1] is None
    assert described(tf.matmul(tf.pad(ph(3, 5), [[1, 0], [0, 0]]), ph(5, 6)))[1] is None
    assert described(tf.matmul(tf.concat([ph(3, 5), ph(3, 5)], 0), ph(5, 6)))[1] is None


def test_one_image_of_several_and_uneven_padding():
    assert compared(tf.nn.conv2d(ph(3, 2, 8, 8, 3)[2], ph(3, 3, 3, 4), [1, 1, 1, 1], "SAME"), "forward").x.offset == 2 * 2 * 8 * 8 * 3
    d = compared(conv(ph(2, 9, 9, 3), ph(3, 3, 3, 4), strides=(2, 2), padding=((1, 0), (0, 1)), dilations=(1, 1), groups=1), "forward")
    assert d.pads == ((1, 0), (0, 0))


def test_parts_of_arrays():
    x, w = ph(4, 9, 8, 6), ph(3, 3, 4, 4)
    for part in (x[1:3], x[1:, :, :, 2:], x[:2, 1:, 2:, :4]):
        part = part[..., :4]
        y = tf.nn.conv2d(part, w, [1, 1, 1, 1], "SAME" if part.shape[1] == 9 else "VALID")
        assert len(compared(y, "forward").strides) == 2
        assert len(compared(tf.gradients(y, w, grad_ys=ph(*y.shape.as_list()))[0], "filter").strides) == 2
    dy = ph(5, 9, 8, 6)[2:4, :, :, 1:5]
    compared(tf.gradients(tf.nn.conv2d(x[:2, :, :, :4], w, [1, 1, 1, 1], "SAME"), x, grad_ys=dy)[0], "data")
    padded = tf.pad(ph(2, 9, 8, 4), [[1, 0], [1, 1], [1, 1], [0, 0]])  # a volume with a border of images
    assert len(compared(tf.nn.conv2d(padded, w, [1, 1, 1, 1], "VALID"), "forward").strides) == 3


# ---------------------------------------------------------------- what only looks like one


def contraction(image, filter, outs, reduced) -> object:
    """From two scalar expressions over all axes."""
    a, b = contract.Operand(image, outs, [], reduced), contract.Operand(filter, outs, [], reduced)
    return library_calls.from_product(contract.Product(a, b, outs, types.float32))


def axes(*extents):
    made = [ir.Axis(n) for n in extents]
    return made, [ir.axis(a) for a in made]


def array(*sizes):
    return Buffer(types.float32, sizes, "in")


def gradient(condition, place=None):
    """The gradient through windows of stride 2 of a line, with its conditions changed by `condition`."""
    (n, i, c), (n_, i_, c_) = axes(2, 16, 3)
    (t, k), (t_, k_) = axes(3, 4)
    at = (i_ + 1 - t_) // 2
    inside = ir.m.land(at >= 0, at < 8)
    load = ir.load(array(2, 8, 4), [n_, ir.m.max(ir.m.min(at, 7), ir.index_const(0)), k_])
    masked = ir.select(condition(inside, at, i_, t_, k_), load, 0)
    return contraction(masked, ir.load(array(3, 3, 4), [t_, c_, k_]), [n, i, c], [t, k])


def test_a_gradient_through_strides_reads_multiples_only():
    found = gradient(lambda inside, at, i, t, k: ir.m.land(inside, (at * 2).eq(i + 1 - t)))
    assert found.kind == "data" and found.strides == (1, 2) and found.pads[1] == (1, 1)
    assert gradient(lambda inside, at, i, t, k: inside) is None  # every element twice
    assert gradient(lambda inside, at, i, t, k: ir.m.land(inside, (at * 2).eq(i - t))) is None
    assert gradient(lambda inside, at, i, t, k: ir.m.land(ir.m.land(inside, (at * 2).eq(i + 1 - t)), k.eq(i))) is None


def test_a_diagonal_is_no_image():
    (n, o, k), (n_, o_, k_) = axes(2, 6, 4)
    (t, s, c), (t_, s_, c_) = axes(3, 3, 3)
    image = lambda p: ir.load(array(2, 8, 8, 3), [n_, o_ + t_, p + s_, c_])  # noqa: E731
    assert contraction(image(o_), ir.load(array(3, 3, 3, 4), [t_, s_, c_, k_]), [n, o, k], [t, s, c]) is None
    q, q_ = (x[0] for x in axes(6))
    found = contraction(image(q_), ir.load(array(3, 3, 3, 4), [t_, s_, c_, k_]), [n, o, q, k], [t, s, c])
    assert found.kind == "forward" and found.y.sizes == (2, 4, 6, 6)


@pytest.mark.parametrize("apart, filters, fits", [(3, 4, True), (4, 4, False), (3, 5, False)])
def test_groups_that_leave_gaps(apart, filters, fits):
    """Channels of a group 3 of `apart`, and filters of a group 4 of `filters`."""
    (n, o, g, k), (n_, o_, g_, k_) = axes(2, 6, 2, 4)
    (t, c), (t_, c_) = axes(3, 3)
    image = ir.load(array(2, 8, 2 * apart), [n_, o_ + t_, g_ * apart + c_])
    found = contraction(image, ir.load(array(3, 3, 2 * filters), [t_, c_, g_ * filters + k_]), [n, o, g, k], [t, c])
    assert (found is not None) == fits and (not fits or found.groups == 2 and found.w.sizes == (8, 3, 1, 3))


@pytest.mark.parametrize("outs, fits", [("gc", True), ("cg", False)])
def test_groups_of_a_result_lie_together(outs, fits):
    (n, o, g, k), (n_, o_, g_, k_) = axes(2, 6, 2, 4)
    (t, c), (t_, c_) = axes(3, 3)
    image, filter = ir.load(array(2, 8, 6), [n_, o_ + t_, g_ * 3 + c_]), ir.load(array(3, 3, 8), [t_, c_, g_ * 4 + k_])
    assert (contraction(image, filter, [n, o, g, k] if outs == "gc" else [n, o, k, g], [t, c]) is not None) == fits


@pytest.mark.parametrize("apart, fits", [(4, True), (5, False)])
def test_groups_of_a_gradient_that_leave_gaps(apart, fits):
    (n, i, g, c), (n_, i_, g_, c_) = axes(2, 8, 2, 3)
    (t, k), (t_, k_) = axes(3, 4)
    at = i_ + 1 - t_
    load = ir.load(array(2, 8, 8), [n_, ir.m.max(ir.m.min(at, 7), ir.index_const(0)), g_ * 4 + k_])
    image = ir.select(ir.m.land(at >= 0, at < 8), load, 0)
    found = contraction(image, ir.load(array(3, 3, 2 * apart), [t_, c_, g_ * apart + k_]), [n, i, g, c], [t, k])
    assert (found is not None) == fits and (not fits or (found.kind, found.groups) == ("data", 2))


def test_conditions_that_are_not_those_of_the_array():
    """A line of 8 whose border is cut elsewhere, clamped elsewhere, or moves."""
    (n, o, k), (n_, o_, k_) = axes(2, 8, 4)
    (t, c), (t_, c_) = axes(3, 3)
    at, filter = o_ + t_ - 1, ir.load(array(3, 3, 4), [t_, c_, k_])

    def line(edge, last):
        load = ir.load(array(2, 8, 3), [n_, ir.m.max(ir.m.min(at, last), ir.index_const(0)), c_])
        return contraction(ir.select(ir.m.land(at >= 0, at < edge), load, 0), filter, [n, o, k], [t, c])
    assert line(8, 7).pads == ((0, 0), (1, 1))
    assert line(7, 6) is None and line(8, 6) is None and line(o_ + 7, 7) is None
    inner = ir.load(array(2, 10, 3), [n_, o_ + t_, c_])
    assert contraction(inner, filter, [n, o, k], [t, c]).pads == ((0, 0), (0, 0))
    assert contraction(ir.select(o_ + t_ >= o_ * 2 - 5, inner, 0), filter, [n, o, k], [t, c]) is None


def test_axes_of_neither_or_one_operand():
    (i, j, b, r, q), (i_, j_, b_, r_, q_) = axes(5, 6, 3, 4, 7)
    x, y = ir.load(array(5, 4), [i_, r_]), ir.load(array(4, 6), [r_, j_])
    assert contraction(x, y, [i, j], [r]).c.sizes == (5, 6)
    assert contraction(x, y, [i, b, j], [r]) is None
    assert contraction(ir.load(array(5), [i_]), y, [i, j], [r]) is None
    assert contraction(x, ir.load(array(4, 7, 6), [r_, q_, j_]), [i, j], [r, q]) is None


def test_sizes_that_are_known_later():
    n = types.symbol("n", 4)
    b = [Buffer(types.float32, s, "in") for s in ((n, 8, 8, 3), (3, 3, 3, 4))]
    i, y, x, k = (ir.Axis(e) for e in (n, 6, 6, 4))
    ty, tx, c = (ir.Axis(3) for _ in range(3))
    at = ir.axis
    a = ir.load(b[0], [at(i), at(y) + at(ty), at(x) + at(tx), at(c)])
    w = ir.load(b[1], [at(ty), at(tx), at(c), at(k)])
    p = contract.Product(contract.Operand(a, [], [i, y, x], [ty, tx, c]), contract.Operand(w, [], [k], [ty, tx, c]), [], types.float32)
    d = library_calls.from_product(p)
    assert isinstance(d, Convolution) and d.x.sizes[0] == n
    assert d.bind({"n": 7}).y.sizes == (7, 4, 6, 6)
