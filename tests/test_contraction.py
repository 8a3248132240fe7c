"""Matrix products, convolutions, einsum and tensordot against NumPy, SciPy and plain loops; kernels against references."""
from __future__ import annotations

import itertools

import numpy as np
import pytest
from on_gpu import QUICK
from scipy import signal

import graphflow as tf
from graphflow import types
from graphflow.codegen import ir
from graphflow.flags import flags
from graphflow.ops import contraction, einsum, opdef

pytestmark = pytest.mark.filterwarnings("ignore:gradients. no path")
RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default(), flags.override(interpret=QUICK):
        yield


def run(*fetches, feed_dict=None):
    with tf.Session() as sess:
        found = sess.run(list(fetches), feed_dict)
    return found if len(found) > 1 else found[0]


def normal(*shape):
    return RNG.normal(size=shape)


def kernel_value(op, arrays):
    """Output 0 of an op by its kernel expression alone, evaluated with NumPy over all indices; every load is checked."""
    buffers = [ir.Buffer(t.dtype, a.shape, "in") for t, a in zip(op.inputs, arrays)]
    axes = [ir.Axis(n) for n in op.outputs[0].sizes]
    index, read = [ir.axis(a) for a in axes], lambda i, at: ir.load(buffers[i], at)
    fold = op.opdef._fold(op, index, read) if op.opdef._fold else ir.Fold("", (), op.opdef._lower(op, index, read))
    grid = dict(zip([*axes, *fold.axes], np.indices([a.extent for a in (*axes, *fold.axes)], np.int64)))
    value = np.broadcast_to(evaluated(fold.expr, grid, dict(zip(buffers, arrays))), [a.extent for a in (*axes, *fold.axes)])
    over = tuple(range(len(axes), len(axes) + len(fold.axes)))
    return value.sum(over) if fold.combine == "add" else value.max(over) if fold.combine == "max" else value


def evaluated(root, grid, memory):
    done = {}
    for e in ir.walk(root):
        args = [done[id(a)] for a in e.args]
        if e.op == "load":
            array = memory[e.data]
            assert all(np.all((i >= 0) & (i < n)) for i, n in zip(args, array.shape)), f"{ir.text(e)} reads out of bounds"
            done[id(e)] = array[tuple(args)] if args else array
        elif e.op in ("const", "size"):
            done[id(e)] = np.asarray(e.data, e.dtype.np)
        elif e.op == "axis":
            done[id(e)] = grid[e.data]
        elif e.op == "cast":
            done[id(e)] = args[0].astype(e.dtype.np)
        elif e.op == "check":
            done[id(e)] = args[1]
        else:
            done[id(e)] = ir.SCALAR[e.op][1](*args)
    return done[id(root)]


def check_kernel(t, arrays):
    """The kernel of the op of `t` against its NumPy reference."""
    want = t.op.opdef.evaluate(t.op, arrays)[0]
    assert want.shape == tuple(t.sizes)
    exact = t.dtype in (tf.float64, tf.complex128)
    np.testing.assert_allclose(kernel_value(t.op, arrays), want, rtol=1e-9 if exact else 1e-5, atol=1e-12 if exact else 1e-5)


def check_gradients(function, *arrays, order=2):
    """Gradients of a random projection of `function` against central differences, in float64; then those of the gradient."""
    xs = [tf.constant(a) for a in arrays]
    y = function(*xs)
    y = y if isinstance(y, tf.Tensor) else y[0]
    weight = normal(*y.sizes)
    grads = tf.gradients(y, xs, grad_ys=[tf.constant(weight)])
    real = [(i, g) for i, g in enumerate(grads) if g is not None]
    values = run(*[g for _, g in real], y)[:-1]
    for (i, g), found in zip(real, values):
        assert g.shape == xs[i].shape and found.shape == arrays[i].shape
        direction = normal(*arrays[i].shape)
        h = 1e-5
        plus, minus = (np.sum(run(y, feed_dict={xs[i]: arrays[i] + s * h * direction}) * weight) for s in (1, -1))
        np.testing.assert_allclose(np.sum(found * direction), (plus - minus) / (2 * h), rtol=2e-6, atol=2e-7)
    if order > 1:
        for i, _ in real:
            check_gradients(lambda *ts, i=i: tf.gradients(function(*ts), [ts[i]], grad_ys=None)[0], *arrays, order=1) \
                if _depends(function, arrays, i) else None


def _depends(function, arrays, i):
    """Whether a second derivative can be asked for: the gradient of input i is not constant."""
    xs = [tf.constant(a) for a in arrays]
    y = function(*xs)
    g = tf.gradients(y if isinstance(y, tf.Tensor) else y[0], [xs[i]])[0]
    return any(x.op in tf.graph.topological([g.op]) for x in xs)


# ---------------------------------------------------------------- matmul


@pytest.mark.parametrize("ta,tb", list(itertools.product([False, True], repeat=2)))
def test_matmul_transposes(ta, tb):
    a, b = normal(*((4, 3) if ta else (3, 4))), normal(*((5, 4) if tb else (4, 5)))
    y = tf.matmul(tf.constant(a), b, transpose_a=ta, transpose_b=tb)
    np.testing.assert_allclose(run(y), (a.T if ta else a) @ (b.T if tb else b), rtol=1e-12)
    assert y.op.type == "MatMul"
    check_kernel(y, [a, b])
    check_gradients(lambda x, z: tf.matmul(x, z, transpose_a=ta, transpose_b=tb), a, b)


@pytest.mark.parametrize("ta,tb,ca,cb", list(itertools.product([False, True], repeat=4)))
def test_complex_gradient_is_that_of_the_real_and_imaginary_parts(ta, tb, ca, cb):
    a = normal(*((4, 3) if ta else (3, 4))) + 1j * normal(*((4, 3) if ta else (3, 4)))
    b = normal(*((2, 4) if tb else (4, 2))) + 1j * normal(*((2, 4) if tb else (4, 2)))
    w = normal(3, 2) + 1j * normal(3, 2)
    x, z = tf.constant(a), tf.constant(b)
    y = contraction.matmul_op(x, z, transpose_a=ta, transpose_b=tb, conj_a=ca, conj_b=cb)
    check_kernel(y, [a, b])
    for t, value, g in zip((x, z), (a, b), tf.gradients(y, [x, z], grad_ys=[tf.constant(w)])):
        d = normal(*value.shape) + 1j * normal(*value.shape)
        loss = [np.sum(run(y, feed_dict={t: value + s * 1e-5 * d}) * w.conj()).real for s in (1, -1)]
        np.testing.assert_allclose(np.sum(run(g) * d.conj()).real, (loss[0] - loss[1]) / 2e-5, rtol=1e-6)


@pytest.mark.parametrize("sa,sb", [((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (3, 4, 2)), ((3, 4), (5, 4, 2)), ((1, 3, 4), (6, 4, 2))])
def test_batches_broadcast(sa, sb):
    a, b = normal(*sa), normal(*sb)
    y = tf.matmul(a, tf.constant(b))
    np.testing.assert_allclose(run(y), a @ b, rtol=1e-12)
    check_kernel(y, [a, b])
    check_gradients(tf.matmul, a, b)
    check_gradients(lambda x, z: tf.matmul(x, z, transpose_a=True, adjoint_b=True), np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2))


@pytest.mark.parametrize("dtype", contraction.MATMUL, ids=lambda d: d.name)
def test_matmul_dtypes(dtype):
    a, b = RNG.integers(-4, 5, (3, 4)), RNG.integers(-4, 5, (4, 2))
    y = run(tf.matmul(tf.constant(a.tolist(), dtype), tf.constant(b.tolist(), dtype)))
    np.testing.assert_array_equal(y, a @ b)
    assert y.dtype == (np.float32 if dtype is tf.bfloat16 else dtype.np)  # bfloat16 comes back as float32


def test_float16_products_are_summed_in_float32():
    a = np.full((1, 4096), 1, np.float16)
    assert run(tf.matmul(a, a, transpose_b=True))[0, 0] == 4096


def test_matmul_shapes_and_errors():
    x = tf.convert_to_tensor(np.zeros((2, 3), np.float32))
    unknown = opdef.StandIn(spec=tf.graph.Spec(tf.float32, (types.UNKNOWN, 3)))
    assert tf.matmul(unknown, np.zeros((3, 5), np.float32)).shape.as_list() == [None, 5]
    no_rank = opdef.StandIn(spec=tf.graph.Spec(tf.float32, None))
    assert tf.matmul(x, no_rank).shape.as_list() == [2, None]
    assert tf.matmul(no_rank, no_rank).shape.ndims is None
    with pytest.raises(ValueError, match=r"(?s)Dimensions must be equal, but are 3 and 2.*test_contraction.py"):
        tf.matmul(x, x)
    with pytest.raises(ValueError, match="rank"):
        tf.matmul(x, np.zeros(3, np.float32))
    with pytest.raises(TypeError, match="does not match"):
        tf.matmul(x, tf.constant(np.zeros((3, 2))))
    with pytest.raises(ValueError, match="Only one of transpose_a and adjoint_a"):
        tf.matmul(x, x, transpose_a=True, adjoint_a=True)
    np.testing.assert_array_equal(run(x @ np.ones((3, 1), np.float32)), np.zeros((2, 1)))


# ---------------------------------------------------------------- convolution


def loop_conv(x, w, strides, pads, dilations, groups):
    """Every output element by its definition."""
    kernel, rank = w.shape[:-2], w.ndim - 2
    padded = np.pad(x, [(0, 0), *pads, (0, 0)])
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(padded.shape[1:-1], kernel, strides, dilations)]
    y = np.zeros((x.shape[0], *counts, w.shape[-1]))
    cg, kg = w.shape[-2], w.shape[-1] // groups
    for at in np.ndindex(*y.shape):
        g = at[-1] // kg
        for tap in np.ndindex(*kernel):
            place = tuple(at[1 + i] * strides[i] + tap[i] * dilations[i] for i in range(rank))
            y[at] += padded[(at[0], *place)][g * cg:(g + 1) * cg] @ w[tap][:, at[-1]]
    return y


def same_pads(sizes, kernel, strides, dilations):
    out = []
    for n, k, s, d in zip(sizes, kernel, strides, dilations):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        out.append((total // 2, total - total // 2))
    return out


CONVS = [
    # x, w, strides, padding, dilations, groups
    ((2, 7, 3), (3, 3, 4), (1,), "SAME", (1,), 1),
    ((2, 8, 2), (3, 2, 3), (2,), "VALID", (2,), 1),
    ((2, 5, 6, 3), (3, 2, 3, 4), (1, 1), "SAME", (1, 1), 1),
    ((1, 5, 6, 2), (2, 3, 2, 3), (2, 3), "SAME", (1, 1), 1),
    ((1, 6, 5, 2), (2, 2, 2, 2), (1, 1), "VALID", (2, 3), 1),
    ((1, 4, 5, 2), (3, 3, 2, 2), (2, 1), ((1, 2), (0, 1)), (1, 2), 1),
    ((2, 4, 4, 4), (3, 3, 2, 6), (2, 2), "SAME", (1, 1), 2),
    ((2, 4, 5, 3), (2, 2, 1, 6), (1, 2), "SAME", (1, 1), 3),
    ((1, 3, 4, 3, 2), (2, 2, 2, 2, 3), (1, 2, 1), "SAME", (1, 1, 1), 1),
    ((1, 4, 4, 2), (1, 1, 2, 3), (2, 2), "VALID", (1, 1), 1),
    ((1, 3, 3, 1), (5, 5, 1, 1), (1, 1), "SAME", (1, 1), 1),
]


@pytest.mark.parametrize("sx,sw,strides,padding,dilations,groups", CONVS)
def test_convolution(sx, sw, strides, padding, dilations, groups):
    x, w = normal(*sx), normal(*sw)
    attrs = {"strides": strides, "padding": padding, "dilations": dilations, "groups": groups}
    pads = same_pads(sx[1:-1], sw[:-2], strides,
                     dilations) if padding == "SAME" else [(0, 0)] * (len(sx) - 2) if padding == "VALID" else padding
    y = contraction.conv(x, w, **attrs)
    want = loop_conv(x, w, strides, pads, dilations, groups)
    assert y.shape.as_list() == list(want.shape)
    np.testing.assert_allclose(run(y), want, rtol=1e-10, atol=1e-12)
    check_kernel(y, [x, w])
    check_kernel(contraction.conv_input_grad(np.array(sx), w, want, **attrs), [np.array(sx), w, want])
    check_kernel(contraction.conv_filter_grad(x, np.array(sw), want, **attrs), [x, np.array(sw), want])
    check_gradients(lambda a, b: contraction.conv(a, b, **attrs), x, w)
    check_gradients(lambda b, d: contraction.conv_input_grad(np.array(sx), b, d, **attrs), w, want)
    check_gradients(lambda a, d: contraction.conv_filter_grad(a, np.array(sw), d, **attrs), x, want)


def test_convolution_against_scipy():
    x, w = normal(1, 9, 8, 1), normal(3, 4, 1, 1)
    y = run(contraction.conv(x, w, strides=(1, 1), padding="VALID", dilations=(1, 1)))
    np.testing.assert_allclose(y[0, :, :, 0], signal.correlate2d(x[0, :, :, 0], w[:, :, 0, 0], "valid"), rtol=1e-10)


def test_convolution_of_unknown_sizes():
    x = opdef.StandIn(spec=tf.graph.Spec(tf.float32, (types.UNKNOWN, types.UNKNOWN, 8, 3)))
    y = contraction.conv(x, np.zeros((3, 3, 3, 4), np.float32), strides=(2, 2), padding="SAME", dilations=(1, 1))
    assert y.shape.as_list() == [None, None, 4, 4]
    n = types.symbol("n", 9)
    assert contraction.conv_sizes((2, n, n, 3), (3, 3, 3, 4), strides=(1, 1), padding="SAME", dilations=(1, 1), groups=1) == (2, n, n, 4)
    assert contraction.window_pads((n,), (4,), (1,), "SAME", (1,)) == ((1, 2),)
    assert contraction.conv_sizes((2, n, 3), (3, 3, 4), strides=(1,), padding="VALID", dilations=(1,), groups=1)[1] == n - 2


def test_convolution_errors():
    x, w = np.zeros((1, 4, 4, 3), np.float32), np.zeros((3, 3, 2, 4), np.float32)
    attrs = {"strides": (1, 1), "dilations": (1, 1), "padding": "VALID"}
    with pytest.raises(ValueError, match="number of input channels does not match"):
        contraction.conv(x, w, **attrs)
    with pytest.raises(ValueError, match="Negative dimension size caused by subtracting 5 from 4"):
        contraction.conv(x, np.zeros((5, 5, 3, 1), np.float32), **attrs)
    with pytest.raises(ValueError, match="belongs to an input of shape"):
        contraction.conv_input_grad(np.array([1, 4, 4, 2]), w, np.zeros((1, 3, 3, 4), np.float32), **attrs)
    with pytest.raises(ValueError, match="groups"):
        contraction.conv(np.zeros((1, 4, 4, 6), np.float32), w, groups=3, **attrs)


# ---------------------------------------------------------------- einsum, tensordot


EQUATIONS = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk->ki", (2, 3), (3, 4)), ("ji,jk->ik", (3, 2), (3, 4)), ("ij,kj->ik", (2, 3), (4, 3)),
    ("bij,bjk->bik", (5, 2, 3), (5, 3, 4)), ("ijb,bkj->kbi", (2, 3, 5), (5, 4, 3)), ("ij->ji", (2, 3)), ("ij->j", (2, 3)), ("ij->", (2, 3)),
    ("i,j->ij", (2,), (3,)), ("i,i->", (3,), (3,)), ("i,i->i", (3,), (3,)), ("ij,j->i", (2, 3), (3,)), ("ii->i", (3, 3)), ("ii->", (3, 3)),
    ("ijij->ij", (2, 3, 2, 3)), ("iij,jk->ik", (2, 2, 3), (3, 4)), ("abcd,cdef->abef", (2, 3, 4, 2), (4, 2, 3, 2)),
    ("abcd,dcef->feab", (2, 3, 4, 2), (2, 4, 3, 2)), ("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)),
    ("...ij,jk->...ik", (2, 5, 3, 4), (4, 2)), ("i...,i...->...", (2, 3), (2, 3)), ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    ("bn,anm,bm->ba", (2, 3), (5, 3, 4), (2, 4)), ("i,ij,j->", (2,), (2, 3), (3,)), ("ij,jk", (2, 3), (3, 4)), ("ba", (2, 3)),
    ("...a,...b", (2, 3), (2, 4)), ("bfd,bd->bf", (2, 3, 4), (2, 4)), ("ija,k->ijk", (2, 3, 2), (4,)),
    ("aij,bij->ab", (2, 3, 4), (5, 3, 4)),
]


@pytest.mark.parametrize("equation,shapes", [(e[0], e[1:]) for e in EQUATIONS], ids=[f"{e[0]} {e[1:]}" for e in EQUATIONS])
def test_einsum(equation, shapes):
    arrays = [normal(*s) for s in shapes]
    y = tf.einsum(equation, *map(tf.constant, arrays))
    want = np.einsum(equation, *arrays)
    assert y.shape.as_list() == list(want.shape)
    np.testing.assert_allclose(run(y), want, rtol=1e-10, atol=1e-12)
    check_gradients(lambda *xs: tf.einsum(equation, *xs), *arrays)


def test_einsum_makes_products_without_transposes():
    def kinds(t):
        return [op.type for op in tf.graph.topological([t.op]) if op.type not in ("Const",)]
    a, b = tf.constant(normal(2, 3)), tf.constant(normal(4, 3))
    assert kinds(tf.einsum("ij,kj->ik", a, b)) == ["MatMul"]
    assert kinds(tf.einsum("ij,kj->ki", a, b)) == ["MatMul"]
    assert kinds(tf.einsum("bij,bkj->bik", normal(2, 3, 4), normal(2, 5, 4))) == ["BatchMatMul"]


@pytest.mark.parametrize("equation,match",
                         [("ij,jk->iz", "does not occur"), ("ijk,jk->i", "dimensions"), ("ij->ij", "expecting 1"), ("i1,jk->i", "letters"),
                                            ("ij,jk->ii", "repeat"), ("ij,ik->j", "Dimensions must be equal")])
def test_einsum_errors(equation, match):
    with pytest.raises(ValueError, match=match):
        tf.einsum(equation, tf.constant(normal(2, 3)), tf.constant(normal(3, 4)))


@pytest.mark.parametrize("sa,sb,axes",
                         [((2, 3, 4), (3, 4, 5), 2), ((2, 3), (3, 4), 1), ((2, 3), (4, 5), 0), ((2, 3, 4), (4, 2, 5), [[0, 2], [1, 0]]),
                                        ((2, 3, 4), (5, 3), [1, 1]), ((3, 4), (3, 4), [[0, 1], [0, 1]]), ((2, 3, 4), (4, 2), [-1, 0])])
def test_tensordot(sa, sb, axes):
    a, b = normal(*sa), normal(*sb)
    y = tf.tensordot(a, tf.constant(b), axes)
    want = np.tensordot(a, b, axes)
    assert y.shape.as_list() == list(want.shape)
    np.testing.assert_allclose(run(y), want, rtol=1e-10, atol=1e-12)
    check_gradients(lambda x, z: tf.tensordot(x, z, axes), a, b)


def test_tensordot_with_unknown_batch():
    x = tf.placeholder(tf.float64, [None, 3, 4])
    y = tf.tensordot(x, tf.constant(np.ones((4, 5))), [[2], [0]])
    assert y.shape.as_list() == [None, 3, 5]
    value = normal(6, 3, 4)
    np.testing.assert_allclose(run(y, feed_dict={x: value}), value @ np.ones((4, 5)))
    g = tf.gradients(y, x)[0]
    np.testing.assert_allclose(run(g, feed_dict={x: value}), np.full((6, 3, 4), 5.0))


def test_tensordot_errors():
    a, b = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="Dimensions must be equal, but are 3 and 2"):
        tf.tensordot(a, b, 1)
    with pytest.raises(ValueError, match="must not be larger"):
        tf.tensordot(a, b, 3)
    with pytest.raises(ValueError, match="Different number of contraction axes"):
        tf.tensordot(a, b, [[0, 1], [0]])


_ = einsum
