"""The optimizers' updates as functions, beside TensorFlow's."""
from __future__ import annotations

import inspect

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags
from graphflow.train import training_ops

DENSE, ROWS, INDICES = np.float32([[.1, -.2], [.3, .4], [-.5, .6]]), np.float32([[.1, -.2], [.3, .4]]), [2, 0]
# The arguments, given the variable, slots filled with .1, .2, .3, and the gradient (with indices).
CALLS = {
    "gradient_descent": lambda v, s, g: (v, .5, *g),
    "momentum": lambda v, s, g: (v, s[0], .5, *g, .9),
    "adam": lambda v, s, g: (v, s[0], s[1], .9, .99, .5, .9, .99, 1e-3, *g),
    "rms_prop": lambda v, s, g: (v, s[0], s[1], .5, .9, .8, 1e-3, *g),
    "centered_rms_prop": lambda v, s, g: (v, s[0], s[1], s[2], .5, .9, .8, .7, *g),
    "adagrad": lambda v, s, g: (v, s[0], .5, *g),
    "adadelta": lambda v, s, g: (v, s[0], s[1], .5, .9, 1e-3, *g),
    "ftrl": lambda v, s, g: (v, s[0], s[1], *g, .5, .1, .2, -.5),
    "ftrl_v2": lambda v, s, g: (v, s[0], s[1], *g, .5, .1, .2, .3, -.6),
    "proximal_gradient_descent": lambda v, s, g: (v, .5, .1, .2, *g),
    "proximal_adagrad": lambda v, s, g: (v, s[0], .5, .1, .2, *g),
    "adagrad_da": lambda v, s, g: (v, s[0], s[1], *g, .5, .1, .2, np.int64(3))}
# What v = [[1, 2], [3, 4], [5, 6]] becomes: TensorFlow 2.21.
AFTER = {
    "apply_gradient_descent": [0.95, 2.1, 2.85, 3.8, 5.25, 5.7],
    "apply_momentum": [0.905, 2.055, 2.805, 3.755, 5.205, 5.655],
    "sparse_apply_momentum": [0.805, 1.755, 3.0, 4.0, 4.905, 6.055],
    "apply_adam": [0.887914, 1.921599, 2.865767, 3.854835, 4.955434, 5.833333],
    "apply_rms_prop": [0.675155, 2.164443, 2.365658, 3.228582, 5.574025, 4.99818],
    "sparse_apply_rms_prop": [0.365658, 1.228582, 3.0, 4.0, 4.675155, 6.164443],
    "apply_centered_rms_prop": [0.706425, 1.866655, 2.599607, 3.54669, 5.023027, 5.442624],
    "sparse_apply_centered_rms_prop": [0.599607, 1.54669, 3.0, 4.0, 4.706425, 5.866655],
    "apply_adagrad": [0.849244, 2.267261, 2.655876, 3.607768, 5.422577, 5.557674],
    "sparse_apply_adagrad": [0.655876, 1.607768, 3.0, 4.0, 4.849244, 6.267261],
    "apply_adadelta": [0.926095, 2.145458, 2.787338, 3.725883, 5.329086, 5.622586],
    "sparse_apply_adadelta": [0.787338, 1.725883, 3.0, 4.0, 4.926095, 6.145458],
    "apply_ftrl": [-0.159058, 0.114733, 0.092762, 0.598247, 1.865698, 1.960791],
    "sparse_apply_ftrl": [-0.126339, 0.052611, 3.0, 4.0, -0.042934, 0.518366],
    "apply_ftrl_v2": [-0.826696, -0.862499, -1.310613, -1.04113, 0.009964, 0.009937],
    "sparse_apply_ftrl_v2": [-0.671121, -0.714172, 3.0, 4.0, -3.275057, -2.784588],
    "apply_proximal_gradient_descent": [0.818182, 1.863636, 2.545455, 3.409091, 4.727273, 5.136363],
    "sparse_apply_proximal_gradient_descent": [0.727273, 1.590909, 3.0, 4.0, 4.454545, 5.5],
    "apply_proximal_adagrad": [0.536675, 1.683655, 2.066972, 2.934255, 4.566228, 4.779285],
    "sparse_apply_proximal_adagrad": [0.440183, 1.262177, 3.0, 4.0, 3.610025, 4.840068],
    "apply_adagrad_da": [0.0, 0.0, -0.059629, -0.111111, 0.051503, -0.190779],
    "sparse_apply_adagrad_da": [-0.059629, -0.111111, 3.0, 4.0, 0.0, 0.0],
}


@pytest.mark.parametrize("name", AFTER)
def test_updates_of_tensorflow(name):
    for prefix in ("", "resource_"):
        with flags.override(interpret=QUICK), tf.Graph().as_default(), tf.Session() as sess:
            v = tf.Variable(np.float32([[1, 2], [3, 4], [5, 6]]))
            slots = [tf.Variable(np.full((3, 2), .1 * (i + 1), np.float32)) for i in range(3)]
            gradient = (ROWS, INDICES) if name.startswith("sparse") else (DENSE,)
            done = getattr(training_ops, prefix + name)(*CALLS[name.split("apply_")[1]](v, slots, gradient), use_locking=True)
            assert isinstance(done, tf.Operation) == bool(prefix)
            sess.run(tf.global_variables_initializer())
            sess.run(done)
            np.testing.assert_allclose(sess.run(v).reshape(-1), AFTER[name], atol=3e-6)


def test_signatures():
    assert str(inspect.signature(training_ops.sparse_apply_momentum)) == (
        "(var, accum, lr, grad, indices, momentum, use_locking=False, use_nesterov=False, name=None)")
    assert "delta" in inspect.signature(training_ops.apply_gradient_descent).parameters
    with pytest.raises(TypeError, match="missing"):
        training_ops.apply_adam(tf.Variable(1.0))
