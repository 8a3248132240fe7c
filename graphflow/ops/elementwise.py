"""Elementwise primitives: arithmetic, comparisons, logic, transcendental functions.

Each block is one op; `m` builds Kernel IR scalars.  TF's names and argument forms are in graphflow/math_ops.py.
"""
from __future__ import annotations

import numpy as np

from .. import graph, types
from ..codegen.ir import m
from ..types import ALL, COMPLEX, FLOAT, INTEGER, NUMERIC, SIGNED
from .opdef import elementwise

_ = ALL, COMPLEX, INTEGER, SIGNED, np


def unbroadcast(dy, x):
    """The gradient summed over the axes along which `x` was broadcast."""
    return graph.OPERATORS["sum_to_shape"](dy, x)


@elementwise(scalar=lambda x, y: x + y, numpy=np.add, dtypes=NUMERIC, type="Add", commutative=True)
def add(x, y):
    """x + y, element by element."""


@add.grad
def _(op, dy):
    x, y = op.inputs
    return unbroadcast(dy, x), unbroadcast(dy, y)


@elementwise(scalar=lambda x, y: x - y, numpy=np.subtract, dtypes=NUMERIC, type="Sub")
def subtract(x, y):
    """x - y, element by element."""


@subtract.grad
def _(op, dy):
    x, y = op.inputs
    return unbroadcast(dy, x), unbroadcast(-dy, y)


@elementwise(scalar=lambda x, y: x * y, numpy=np.multiply, dtypes=NUMERIC, type="Mul", commutative=True)
def multiply(x, y):
    """x * y, element by element."""


@multiply.grad
def _(op, dy):
    x, y = op.inputs
    return unbroadcast(dy * conj(y), x), unbroadcast(dy * conj(x), y)


@elementwise(scalar=lambda x, y: x / y, numpy=np.divide, dtypes=FLOAT + COMPLEX, type="RealDiv", domain=(0.5, 3.0))
def real_div(x, y):
    """x / y of floats, element by element; division by zero gives inf or nan."""


@real_div.grad
def _(op, dy):
    x, y = op.inputs
    return unbroadcast(dy / conj(y), x), unbroadcast(-dy * conj(x / y) / conj(y), y)


@elementwise(scalar=lambda x: -x, numpy=np.negative, dtypes=NUMERIC, type="Neg")
def negative(x):
    """-x."""


@negative.grad
def _(op, dy):
    return -dy,


def conj(x):
    """The complex conjugate; real tensors pass unchanged."""
    return conj_op(x) if x.dtype.is_complex else x


@elementwise(scalar=lambda x: m.conj(x), numpy=np.conj, dtypes=COMPLEX, type="Conj")
def conj_op(x):
    """The complex conjugate."""


@conj_op.grad
def _(op, dy):
    return conj(dy),


@elementwise(scalar=lambda x: m.exp(x), numpy=np.exp, dtypes=FLOAT + COMPLEX, special={-np.inf: 0.0})
def exp(x):
    """e to the power of each element."""


@exp.grad
def _(op, dy):
    return dy * conj(op.outputs[0]),


@elementwise(scalar=lambda x: m.log(x), numpy=np.log, dtypes=FLOAT + COMPLEX, domain=(0.2, 3.0), special={0.0: -np.inf})
def log(x):
    """Natural logarithm of each element; log(0) is -inf, of a negative real nan."""


@log.grad
def _(op, dy):
    return dy / conj(op.inputs[0]),


_types = types
