"""Linear algebra against numpy.linalg and scipy, its gradients against central differences, its errors."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK
import scipy.linalg

import graphflow as tf
from graphflow.flags import flags


@pytest.fixture(autouse=True)
def _fresh():
    with flags.override(interpret=QUICK), tf.Graph().as_default():
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def run(x):
    with tf.Session() as sess:
        return sess.run(x)


def spd(rng, n=4, batch=(2,)):
    a = rng.normal(size=(*batch, n, n))
    return a @ np.swapaxes(a, -1, -2) + n * np.eye(n)


def directional(build, x, rng, eps=1e-6, symmetric=False):
    """(analytic, numeric) derivative of a random projection of build(x) along a random direction."""
    ph = tf.placeholder(tf.float64, x.shape)
    ys = build(ph)
    ys = ys if isinstance(ys, (list, tuple)) else [ys]
    weights = [rng.normal(size=y.shape.as_list()) for y in ys]
    loss = sum(tf.reduce_sum(y * w) for y, w in zip(ys, weights))
    grad, = tf.gradients(loss, [ph])
    assert grad.shape.as_list() == list(x.shape)
    d = rng.normal(size=x.shape)
    d = d + np.swapaxes(d, -1, -2) if symmetric else d
    with tf.Session() as sess:
        g, up, down = sess.run(grad, {ph: x}), sess.run(loss, {ph: x + eps * d}), sess.run(loss, {ph: x - eps * d})
    return np.sum(g * d), (up - down) / (2 * eps)


def check_gradient(build, x, rng, **kwargs):
    analytic, numeric = directional(build, x, rng, **kwargs)
    np.testing.assert_allclose(analytic, numeric, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_values_match_numpy(rng, dtype):
    a = rng.normal(size=(2, 4, 4)).astype(dtype)
    if np.iscomplexobj(a):
        a = a + (1j * rng.normal(size=a.shape)).astype(dtype)
    s = (a @ np.conj(np.swapaxes(a, -1, -2)) + 4 * np.eye(4)).astype(dtype)
    b = rng.normal(size=(2, 4, 3)).astype(dtype)
    got = run({"chol": tf.cholesky(s), "inv": tf.matrix_inverse(a), "inv_h": tf.matrix_inverse(a, adjoint=True),
               "solve": tf.matrix_solve(a, b), "solve_h": tf.matrix_solve(a, b, adjoint=True), "det": tf.matrix_determinant(a),
               "slogdet": tf.linalg.slogdet(a), "eigh": tf.self_adjoint_eig(s), "eigvals": tf.self_adjoint_eigvals(s),
               "svd": tf.svd(a), "s": tf.svd(a, compute_uv=False), "qr": tf.qr(a), "adjoint": tf.linalg.adjoint(a), "trace": tf.trace(a),
               "chol_solve": tf.cholesky_solve(tf.cholesky(s), b), "pinv": tf.linalg.pinv(a)})
    tol = {"rtol": 2e-3, "atol": 2e-3} if dtype in (np.float32, np.complex64) else {"rtol": 1e-9, "atol": 1e-9}

    def check(x, y):
        assert x.shape == np.shape(y)
        np.testing.assert_allclose(x, y, **tol)

    def h(m):
        return np.conj(np.swapaxes(m, -1, -2))

    assert got["chol"].dtype == dtype
    check(got["chol"] @ h(got["chol"]), s)
    assert np.all(np.triu(got["chol"], 1) == 0)
    check(got["inv"] @ a, np.broadcast_to(np.eye(4), a.shape))
    check(got["inv_h"], h(got["inv"]))
    check(a @ got["solve"], b)
    check(h(a) @ got["solve_h"], b)
    check(got["det"], np.linalg.det(a))
    check(got["slogdet"][0], np.linalg.slogdet(a)[0])
    check(got["slogdet"][1], np.linalg.slogdet(a)[1])
    e, v = got["eigh"]
    check(s @ v, v * e[..., None, :])
    check(got["eigvals"], e)
    sv, u, w = got["svd"]
    check((u * sv[..., None, :]) @ h(w), a)
    check(got["s"], sv)
    q, r = got["qr"]
    check(q @ r, a)
    check(h(q) @ q, np.broadcast_to(np.eye(4), a.shape))
    check(got["adjoint"], h(a))
    check(got["trace"], np.trace(a, axis1=-2, axis2=-1))
    check(s @ got["chol_solve"], b)
    check(got["pinv"], np.linalg.pinv(a))


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("adjoint", [True, False])
@pytest.mark.parametrize("n", [1, 5, 130])
def test_triangular_solve(rng, lower, adjoint, n):
    a = rng.normal(size=(n, n)) + 3 * np.sqrt(n) * np.eye(n)
    b = rng.normal(size=(n, 2))
    t = np.tril(a) if lower else np.triu(a)
    want = np.linalg.solve(t.T if adjoint else t, b)
    np.testing.assert_allclose(run(tf.matrix_triangular_solve(a, b, lower=lower, adjoint=adjoint)), want, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (2, 4, 3)])
def test_rectangular(rng, shape):
    a = rng.normal(size=shape)
    thin, full, q, qf, pinv = run([tf.svd(a), tf.svd(a, full_matrices=True), tf.qr(a), tf.qr(a, full_matrices=True), tf.linalg.pinv(a)])
    for (s, u, v), want in ((thin, tf.svd(a)), (full, tf.svd(a, full_matrices=True))):
        assert [list(x.shape) for x in (s, u, v)] == [t.shape.as_list() for t in want]
    np.testing.assert_allclose((thin[1] * thin[0][..., None, :]) @ np.swapaxes(thin[2], -1, -2), a, atol=1e-12)
    for q_, r_ in (q, qf):
        np.testing.assert_allclose(q_ @ r_, a, atol=1e-12)
    assert qf[0].shape[-1] == shape[-2]
    np.testing.assert_allclose(pinv, np.linalg.pinv(a), atol=1e-12)


@pytest.mark.parametrize("shape,l2", [((5, 3), 0.0), ((5, 3), 0.5), ((3, 5), 0.0)])
def test_least_squares(rng, shape, l2):
    a, b = rng.normal(size=shape), rng.normal(size=(shape[0], 2))
    want = np.linalg.solve(a.T @ a + l2 * np.eye(shape[1]), a.T @ b) if shape[0] > shape[1] else np.linalg.pinv(a) @ b
    np.testing.assert_allclose(run(tf.matrix_solve_ls(a, b, l2_regularizer=l2)), want, atol=1e-10)
    if not l2:
        np.testing.assert_allclose(run(tf.matrix_solve_ls(a, b, fast=False)), want, atol=1e-10)


@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_matrix_functions(rng, scale):
    a = rng.normal(size=(3, 3)) * scale
    np.testing.assert_allclose(run(tf.linalg.expm(a)), scipy.linalg.expm(a), rtol=1e-9, atol=1e-12)
    p = spd(rng, 3, ())
    np.testing.assert_allclose(run(tf.linalg.sqrtm(p)), scipy.linalg.sqrtm(p), rtol=1e-10)


def test_logdet_rank_cross(rng):
    p = spd(rng)
    np.testing.assert_allclose(run(tf.linalg.logdet(p)), np.linalg.slogdet(p)[1])
    low = rng.normal(size=(4, 2)) @ rng.normal(size=(2, 4))
    assert run(tf.linalg.matrix_rank(low)) == 2
    a, b = rng.normal(size=(2, 5, 3))
    np.testing.assert_allclose(run(tf.cross(a, b)), np.cross(a, b))
    with pytest.raises(ValueError, match="must be 3"):
        tf.cross(a[:, :2], b[:, :2])


@pytest.mark.parametrize("kind,axis", [("euclidean", None), (1, None), (2, 1), (np.inf, 0), (3, -1), (2.5, None)])
def test_vector_norms(rng, kind, axis):
    x = rng.normal(size=(3, 4))
    order = 2 if kind == "euclidean" else kind
    want = np.linalg.norm(x.ravel() if axis is None else x, order, axis)
    np.testing.assert_allclose(run(tf.norm(x, ord=kind, axis=axis)), want)
    assert run(tf.norm(x, ord=kind, axis=axis, keepdims=True)).ndim == 2


@pytest.mark.parametrize("kind", ["euclidean", "fro", 1, 2, np.inf])
@pytest.mark.parametrize("axis", [(-2, -1), (0, 1), (2, 0)])
def test_matrix_norms(rng, kind, axis):
    x = rng.normal(size=(3, 4, 2))
    order = "fro" if kind == "euclidean" else kind
    for keep in (False, True):
        np.testing.assert_allclose(run(tf.norm(x, ord=kind, axis=axis, keepdims=keep)), np.linalg.norm(x, order, axis, keep))


def test_norm_arguments_are_checked():
    with pytest.raises(ValueError, match="matrix norm"):
        tf.norm(np.eye(2), ord=3, axis=[0, 1])
    with pytest.raises(ValueError, match="vector norm"):
        tf.norm(np.eye(2), ord="fro")
    with pytest.raises(ValueError, match="2 unique"):
        tf.norm(np.eye(2), axis=[0, 0])


SYMMETRIC = {"cholesky": tf.cholesky, "eigh": lambda x: tf.self_adjoint_eig(x)[0], "eigvalsh": tf.self_adjoint_eigvals,
             "eigh_projector": lambda x: tf.matmul(tf.self_adjoint_eig(x)[1] * np.arange(4.0),
                                                   tf.linalg.adjoint(tf.self_adjoint_eig(x)[1])),
             "logdet": tf.linalg.logdet}
GENERAL = {"inverse": tf.matrix_inverse, "det": tf.matrix_determinant, "slogdet": lambda x: tf.log_matrix_determinant(x)[1],
           "svals": lambda x: tf.svd(x, compute_uv=False), "qr": tf.qr, "expm": tf.linalg.expm, "trace": tf.trace,
           "svd_product": lambda x: tf.matmul(tf.svd(x)[1] * tf.exp(-tf.svd(x)[0])[..., None, :], tf.linalg.adjoint(tf.svd(x)[2])),
           "solve_matrix": lambda x: tf.matrix_solve(x, np.ones((2, 4, 3))),
           "solve_adjoint": lambda x: tf.matrix_solve(x, np.ones((2, 4, 3)), adjoint=True),
           "lower": lambda x: tf.matrix_triangular_solve(x, np.ones((2, 4, 3))),
           "upper": lambda x: tf.matrix_triangular_solve(x, np.ones((2, 4, 3)), lower=False, adjoint=True)}


@pytest.mark.parametrize("name", SYMMETRIC)
def test_gradients_of_symmetric_matrices(rng, name):
    check_gradient(SYMMETRIC[name], spd(rng), rng, symmetric=True)


@pytest.mark.parametrize("name", GENERAL)
def test_gradients_of_general_matrices(rng, name):
    check_gradient(GENERAL[name], rng.normal(size=(2, 4, 4)) + 3 * np.eye(4), rng)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
def test_gradients_of_rectangular_svd_and_qr(rng, shape):
    x = rng.normal(size=shape)
    check_gradient(lambda a: tf.matmul(tf.svd(a)[1] * tf.svd(a)[0] ** 2, tf.linalg.adjoint(tf.svd(a)[2])), x, rng)
    if shape[0] > shape[1]:
        check_gradient(tf.qr, x, rng)


@pytest.mark.parametrize("build",
                         [lambda b: tf.matrix_solve(A, b), lambda b: tf.matrix_triangular_solve(A, b), lambda b: tf.cholesky_solve(A, b),
                                   lambda b: tf.matrix_solve_ls(A, b)])
def test_gradients_of_right_hand_sides(rng, build):
    check_gradient(build, rng.normal(size=(3, 2)), rng)


A = np.array([[3.0, 0.2, 0.1], [0.5, 2.0, 0.3], [0.1, 0.4, 4.0]])


def test_gradient_of_sqrtm(rng):
    check_gradient(tf.linalg.sqrtm, spd(rng, 3), rng)


def test_second_order(rng):
    def first(x):
        return tf.gradients(tf.reduce_sum(tf.matrix_inverse(x) ** 2), [x])[0]
    check_gradient(first, rng.normal(size=(3, 3)) + 3 * np.eye(3), rng)


def test_singular_and_indefinite_matrices_raise():
    with pytest.raises(tf.errors.InvalidArgumentError, match="Cholesky decomposition was not successful"):
        run(tf.cholesky([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Input is not invertible"):
        run(tf.matrix_inverse([[1.0, 1.0], [1.0, 1.0]]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not invertible"):
        run(tf.matrix_solve([[1.0, 1.0], [1.0, 1.0]], [[1.0], [1.0]]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not invertible"):
        run(tf.matrix_triangular_solve([[0.0, 0.0], [1.0, 1.0]], [[1.0], [1.0]]))


def test_shapes_are_checked_and_inferred():
    with pytest.raises(ValueError, match="must be equal"):
        tf.cholesky(np.ones((2, 3)))
    with pytest.raises(ValueError, match="at least rank 2"):
        tf.matrix_inverse(np.ones(3))
    with pytest.raises(TypeError, match="int32"):
        tf.matrix_inverse([[1, 2], [3, 4]])
    x = tf.placeholder(tf.float32, [None, 3, 5])
    s, u, v = tf.svd(x)
    assert [t.shape.as_list() for t in (s, u, v)] == [[None, 3], [None, 3, 3], [None, 5, 3]]
    assert tf.matrix_determinant(tf.placeholder(tf.float32, [None, None, 3])).shape.as_list() == [None]
    assert tf.svd(tf.placeholder(tf.float32))[0].shape.ndims is None
    assert tf.linalg.band_part is tf.matrix_band_part


@pytest.mark.parametrize("norm", [0.5, 100.0])
def test_clipping(rng, norm):
    a, b = rng.normal(size=(3, 4)), rng.normal(size=5)
    total = np.sqrt((a**2).sum() + (b**2).sum())
    (ca, none, cb), g = tf.clip_by_global_norm([tf.constant(a), None, tf.constant(b)], norm)
    assert none is None
    got = run([ca, cb, g, tf.global_norm([tf.constant(a), tf.constant(b)]), tf.clip_by_norm(a, norm), tf.clip_by_norm(a, norm, axes=[1]),
               tf.clip_by_average_norm(b, norm)])
    want = [a * min(1, norm / total), b * min(1, norm / total), total, total, a * min(1, norm / np.linalg.norm(a)),
            a * np.minimum(1, norm / np.linalg.norm(a, axis=1, keepdims=True)), b * min(1, norm / (np.linalg.norm(b) / 5))]
    for x, y in zip(got, want):
        np.testing.assert_allclose(x, y, rtol=1e-10)


def test_clip_edge_cases():
    x = tf.placeholder(tf.float64, [3])
    grad, = tf.gradients(tf.clip_by_norm(x, 1.0), x)
    (clipped,), _ = tf.clip_by_global_norm([x], 1.0)
    with tf.Session() as sess:
        assert np.isfinite(sess.run(grad, {x: np.zeros(3)})).all()
        assert np.isnan(sess.run(clipped, {x: [1.0, np.inf, 0.0]})).all()
    assert tf.global_norm([None]) is None
    with pytest.raises(TypeError, match="sequence"):
        tf.global_norm(x)
    slices = tf.IndexedSlices(tf.constant([[3.0, 4.0]]), tf.constant([1]), tf.constant([5, 2]))
    (kept,), _ = tf.clip_by_global_norm([slices], 1.0)
    assert isinstance(kept, tf.IndexedSlices)
    np.testing.assert_allclose(run(kept.values), [[0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("n", [2, 4, 5, 40])
@pytest.mark.parametrize("turned", [False, True])
def test_a_chain_of_products_compiled(rng, n, turned):
    # Small products share a kernel; the second one reads whole rows of the first.
    a, b, c = rng.normal(size=(3, 2, n, n))
    x, y, z = (tf.placeholder(tf.float64, a.shape) for _ in range(3))
    product = tf.matmul(tf.matmul(x, y, transpose_a=turned), z)
    with flags.override(interpret=0), tf.Session() as sess:
        got = sess.run(product, {x: a, y: b, z: c})
    np.testing.assert_allclose(got, (np.swapaxes(a, 1, 2) if turned else a) @ b @ c, rtol=1e-10, atol=1e-12)


def test_a_saved_value_is_not_read_after_its_place_is_taken(rng):
    # exp(-s) is needed before and after the gradient whose memory keeps it meanwhile.
    data, weight = rng.normal(size=(2, 2, 4, 4)) + 3 * np.eye(4)
    x = tf.placeholder(tf.float64, data.shape)
    y = tf.matmul(tf.svd(x)[1] * tf.exp(-tf.svd(x)[0])[..., None, :], tf.linalg.adjoint(tf.svd(x)[2]))
    grad, = tf.gradients(tf.reduce_sum(y * weight), [x])
    want = tf.Session().run(grad, {x: data})
    with flags.override(interpret=0), tf.Session() as sess:
        np.testing.assert_allclose(sess.run(grad, {x: data}), want, rtol=1e-8, atol=1e-10)


def test_lu_and_its_gradient(rng):
    x = rng.normal(size=(2, 4, 4))
    packed, order = run(tf.linalg.lu(x))
    lower, upper = np.tril(packed, -1) + np.eye(4), np.triu(packed)
    np.testing.assert_allclose(lower @ upper, np.take_along_axis(x, order[..., None], 1), rtol=1e-12)
    check_gradient(lambda ph: tf.linalg.lu(ph)[0], x, rng)
    check_gradient(lambda ph: tf.linalg.lu_solve(*tf.linalg.lu(ph), rng.normal(size=(2, 4, 3))), x, rng)
    with pytest.raises(tf.errors.InvalidArgumentError, match="invertible"):
        run(tf.linalg.lu(np.ones((3, 3))))


@pytest.mark.parametrize("pivoting", [True, False])
def test_three_diagonals(rng, pivoting):
    d, b = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 5, 2))
    full = np.stack([np.diag(m[1]) + np.diag(m[0, :-1], 1) + np.diag(m[2, 1:], -1) for m in d])
    np.testing.assert_allclose(run(tf.linalg.tridiagonal_solve(d, b, partial_pivoting=pivoting)), np.linalg.solve(full, b), rtol=1e-8)
    np.testing.assert_allclose(run(tf.linalg.tridiagonal_matmul(d, b)), full @ b, rtol=1e-10)
    check_gradient(lambda ph: tf.linalg.tridiagonal_solve(ph, b, partial_pivoting=pivoting), d, rng)
    with pytest.raises(tf.errors.InvalidArgumentError, match="invertible"):
        run(tf.linalg.tridiagonal_solve(np.zeros((3, 4)), np.ones(4)))


def test_logarithm(rng):
    x = rng.normal(size=(2, 4, 4)) * 0.5 + 3 * np.eye(4)
    found = run(tf.linalg.logm(x.astype(complex)))
    np.testing.assert_allclose(found, np.stack([scipy.linalg.logm(m) for m in x]), rtol=1e-9, atol=1e-10)
