"""`tf.linalg.LinearOperator*`: each against its dense matrix."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags

RNG = np.random.default_rng(0)
A = RNG.normal(size=(2, 3, 3)) + 3 * np.eye(3)
SPD = A @ np.swapaxes(A, 1, 2)
D, U = RNG.uniform(1, 2, (2, 3)), RNG.normal(size=(2, 3, 2))
L = tf.linalg


@pytest.fixture(autouse=True)
def _fresh():
    with flags.override(interpret=QUICK), tf.Graph().as_default():
        yield


def eye(n=3):
    return np.eye(n)


def block(a, b):
    out = np.zeros((*a.shape[:-2], a.shape[-2] + b.shape[-2], a.shape[-1] + b.shape[-1]))
    out[..., :a.shape[-2], :a.shape[-1]], out[..., a.shape[-2]:, a.shape[-1]:] = a, b
    return out


def householder(v):
    unit = v / np.linalg.norm(v, axis=-1, keepdims=True)
    return eye() - 2 * unit[..., :, None] * unit[..., None, :]


CASES = {
    "FullMatrix": (lambda: L.LinearOperatorFullMatrix(A), A),
    "positive definite": (lambda: L.LinearOperatorFullMatrix(SPD, is_positive_definite=True, is_self_adjoint=True), SPD),
    "LowerTriangular": (lambda: L.LinearOperatorLowerTriangular(A), np.tril(A)),
    "Diag": (lambda: L.LinearOperatorDiag(D), D[..., None] * eye()),
    "ScaledIdentity": (lambda: L.LinearOperatorScaledIdentity(3, np.array([2.0, 3.0])), np.array([2.0, 3.0])[:, None, None] * eye()),
    "Identity": (lambda: L.LinearOperatorIdentity(3, batch_shape=[2], dtype=tf.float64), np.stack([eye(), eye()])),
    "Adjoint": (lambda: L.LinearOperatorAdjoint(L.LinearOperatorFullMatrix(A)), np.swapaxes(A, 1, 2)),
    "Inversion": (lambda: L.LinearOperatorFullMatrix(A).inverse(), np.linalg.inv(A)),
    "Composition": (lambda: L.LinearOperatorComposition([L.LinearOperatorFullMatrix(A), L.LinearOperatorDiag(D)]), A * D[:, None]),
    "BlockDiag": (lambda: L.LinearOperatorBlockDiag([L.LinearOperatorFullMatrix(A), L.LinearOperatorDiag(D)]),
                  block(A, D[..., None] * eye())),
    "Kronecker": (lambda: L.LinearOperatorKronecker([L.LinearOperatorFullMatrix(A), L.LinearOperatorDiag(D[:, :2])]),
                  np.stack([np.kron(a, np.diag(d[:2])) for a, d in zip(A, D)])),
    "Householder": (lambda: L.LinearOperatorHouseholder(D), householder(D)),
    "LowRankUpdate": (lambda: L.LinearOperatorLowRankUpdate(L.LinearOperatorDiag(D), U, D[:, :2], U[::-1].copy()),
                      D[..., None] * eye() + U @ (D[:, :2, None] * np.swapaxes(U[::-1], 1, 2))),
}


@pytest.mark.parametrize("name", CASES)
def test_against_dense(name):
    make, dense = CASES[name]
    op, n = make(), dense.shape[-1]
    x, v = RNG.normal(size=(2, n, 2)), RNG.normal(size=(2, n))
    h = np.swapaxes(dense, 1, 2)
    wanted = {
        "dense": (op.to_dense(), dense), "matmul": (op.matmul(x), dense @ x), "adjoint": (op.matmul(x, adjoint=True), h @ x),
        "arg": (op.matmul(np.swapaxes(x, 1, 2), adjoint_arg=True), dense @ x), "matvec": (op.matvec(v), (dense @ v[..., None])[..., 0]),
        "solve": (op.solve(x), np.linalg.solve(dense, x)), "solve adjoint": (op.solve(x, adjoint=True), np.linalg.solve(h, x)),
        "solvevec": (op.solvevec(v), np.linalg.solve(dense, v[..., None])[..., 0]), "det": (op.determinant(), np.linalg.det(dense)),
        "log det": (op.log_abs_determinant(), np.linalg.slogdet(dense)[1]), "trace": (op.trace(), np.trace(dense, axis1=1, axis2=2)),
        "diag": (op.diag_part(), np.diagonal(dense, axis1=1, axis2=2)), "add": (op.add_to_tensor(dense), 2 * dense),
        "H": (op.H.to_dense(), h), "inverse": (op.inverse().to_dense(), np.linalg.inv(dense)), "cond": (op.cond(), np.linalg.cond(dense))}
    assert op.shape.as_list() == list(dense.shape) and op.is_square and op.dtype is tf.float64
    with tf.Session() as sess:
        found = sess.run({k: t for k, (t, _) in wanted.items()})
        assert sess.run(op.shape_tensor()).tolist() == list(dense.shape)
    for key, (_, expected) in wanted.items():
        np.testing.assert_allclose(found[key], expected, rtol=1e-9, atol=1e-9, err_msg=key)


def test_others():
    spd = L.LinearOperatorFullMatrix(SPD, is_positive_definite=True, is_self_adjoint=True)
    zeros = L.LinearOperatorZeros(2, 3, is_square=False, dtype=tf.float64)
    with tf.Session() as sess:
        np.testing.assert_allclose(sess.run(spd.cholesky().to_dense()), np.linalg.cholesky(SPD), rtol=1e-9)
        np.testing.assert_allclose(sess.run(spd.eigvals()), np.linalg.eigvalsh(SPD), rtol=1e-9)
        np.testing.assert_array_equal(sess.run(zeros.matmul(np.ones((3, 1)))), np.zeros((2, 1)))
        sess.run([spd.assert_positive_definite(), spd.assert_self_adjoint(), spd.assert_non_singular()])
        with pytest.raises(tf.errors.InvalidArgumentError):
            sess.run(L.LinearOperatorFullMatrix(A).assert_self_adjoint())
    both = spd @ L.LinearOperatorDiag(D)
    assert isinstance(both, L.LinearOperatorComposition) and both.batch_shape.as_list() == [2]


@pytest.mark.parametrize("kind,message,make", [
    (ValueError, "square", lambda: L.LinearOperatorFullMatrix(A, is_non_singular=True, is_square=False)),
    (ValueError, "at least 2", lambda: L.LinearOperatorFullMatrix(D[0])),
    (ValueError, "positive definite", lambda: L.LinearOperatorFullMatrix(A).cholesky()),
    (NotImplementedError, "singular", lambda: L.LinearOperatorFullMatrix(A, is_non_singular=False).solve(A)),
    (NotImplementedError, "square", lambda: L.LinearOperatorFullMatrix(U).determinant()),
    (ValueError, "fit", lambda: L.LinearOperatorComposition([L.LinearOperatorFullMatrix(U), L.LinearOperatorFullMatrix(A)])),
    (ValueError, "non-negative", lambda: L.LinearOperatorIdentity(-1)),
    (AttributeError, "LinearOperatorDiag", lambda: L.LinearOperatorDiagg)])
def test_bad_input(kind, message, make):
    with pytest.raises(kind, match=message):
        make()


def test_gradient_reaches_the_parts():
    d = tf.constant(D)
    y = tf.reduce_sum(L.LinearOperatorDiag(d).solvevec(np.ones((2, 3))))
    with tf.Session() as sess:
        np.testing.assert_allclose(sess.run(tf.gradients(y, d)[0]), -1 / D**2)
