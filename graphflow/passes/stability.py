"""Rules that put formulas which overflow or cancel into their stable form.  Tried on the user's ops, before composites open.

Each is one block: name, pattern, replacement, what its test needs.  docs/rules.md explains how to write one.
"""
from __future__ import annotations

from ..graph import Tensor
from ..types import FLOAT
from .rewrite import op, rule, table

STABILITY = table("stability")


def shifted(x: Tensor) -> bool:
    """Whether `x` is something minus a maximum already."""
    if x.op.type != "Sub":
        return False
    todo = [x.op.inputs[1].op]
    for _ in range(4):
        if any(o.opdef.combine == "max" for o in todo):
            return True
        todo = [t.op for o in todo for t in o.inputs]
    return False


# ---------------------------------------------------------------- logarithms and exponentials

rule("log(softmax(x)) = log_softmax(x)", lambda x, *, axis: op.Log(op.Softmax(x, axis=axis)), lambda x, axis: op.LogSoftmax(x, axis=axis),
     dtypes=FLOAT, samples=[{"axis": -1}, {"axis": 0}])

rule("log(sum(exp(x))) = logsumexp(x)", lambda x, *, axis, keepdims: op.Log(op.Sum(op.Exp(x), axis=axis, keepdims=keepdims)),
     lambda x, axis, keepdims: op.LogSumExp(x, axis=axis, keepdims=keepdims),
     where=lambda x: not shifted(x), dtypes=FLOAT,
     samples=[{"axis": (1,), "keepdims": False}, {"axis": (0,), "keepdims": True}, {"axis": None, "keepdims": False}])

rule("exp(x) / sum(exp(x)) = softmax(x)", lambda x, *, axis: op.RealDiv(op.Exp(x), op.Sum(op.Exp(x), axis=axis, keepdims=True)),
     lambda x, axis: op.Softmax(x, axis=axis[0]), where=lambda x, axis: axis is not None and len(axis) == 1 and not shifted(x),
     dtypes=FLOAT,
     samples=[{"axis": (1,)}, {"axis": (0,)}])

rule("log(1 + exp(x)) = softplus(x)", lambda x: op.Log(op.Add(op.Exp(x), 1)), lambda x: op.Softplus(x), dtypes=FLOAT)
rule("log1p(exp(x)) = softplus(x)", lambda x: op.Log1p(op.Exp(x)), lambda x: op.Softplus(x), dtypes=FLOAT)
rule("log(1 + x) = log1p(x)", lambda x: op.Log(op.Add(x, 1)), lambda x: op.Log1p(x), dtypes=FLOAT, domain=(-0.7, 3.0))
rule("log(1 - x) = log1p(-x)", lambda x: op.Log(op.Sub(1, x)), lambda x: op.Log1p(op.Neg(x)), dtypes=FLOAT, domain=(-3.0, 0.7),
     where=lambda x: x.op.type != "Sigmoid")  # has its own rule below
rule("log(exp(x)) = x", lambda x: op.Log(op.Exp(x)), lambda x: x, dtypes=FLOAT)
rule("exp(x) - 1 = expm1(x)", lambda x: op.Sub(op.Exp(x), 1), lambda x: op.Expm1(x), dtypes=FLOAT)
rule("exp(x) + -1 = expm1(x)", lambda x: op.Add(op.Exp(x), -1), lambda x: op.Expm1(x), dtypes=FLOAT)

# ---------------------------------------------------------------- sigmoids

rule("1 / (1 + exp(-x)) = sigmoid(x)", lambda x: op.RealDiv(1, op.Add(op.Exp(op.Neg(x)), 1)), lambda x: op.Sigmoid(x), dtypes=FLOAT)
rule("log(sigmoid(x)) = -softplus(-x)", lambda x: op.Log(op.Sigmoid(x)), lambda x: op.Neg(op.Softplus(op.Neg(x))), dtypes=FLOAT)
# Not 1 - sigmoid(x) = sigmoid(-x) everywhere: in gradients of sigmoid it would cost a second exponential.
rule("log(1 - sigmoid(x)) = -softplus(x)", lambda x: op.Log(op.Sub(1, op.Sigmoid(x))), lambda x: op.Neg(op.Softplus(x)), dtypes=FLOAT)

# ---------------------------------------------------------------- gradients of the above
# dy / p * p is 0 / 0 where a probability p has underflowed; these give the limit.

rule("g / softmax(x) * softmax(x) = g",
     lambda g, x, *, axis: op.Mul(op.RealDiv(g, op.Softmax(x, axis=axis)), op.Softmax(x, axis=axis)), lambda g: g,
     dtypes=FLOAT, samples=[{"axis": -1}])
rule("(g / softmax(x) - s) * softmax(x) = g - s * softmax(x)",
     lambda g, s, x, *, axis: op.Mul(op.Sub(op.RealDiv(g, op.Softmax(x, axis=axis)), s), op.Softmax(x, axis=axis)),
     lambda g, s, x, axis: op.Sub(g, op.Mul(s, op.Softmax(x, axis=axis))), dtypes=FLOAT, samples=[{"axis": -1}, {"axis": 0, "s": (1, 3)}])
rule("g / sigmoid(x) * (sigmoid(x) * z) = g * z",
     lambda g, x, z: op.Mul(op.RealDiv(g, op.Sigmoid(x)), op.Mul(op.Sigmoid(x), z)), lambda g, z: op.Mul(g, z), dtypes=FLOAT)
rule("-(g / (1 - sigmoid(x))) * (z * (1 - sigmoid(x))) = -(g * z)",
     lambda g, x, z: op.Mul(op.Neg(op.RealDiv(g, op.Sub(1, op.Sigmoid(x)))), op.Mul(z, op.Sub(1, op.Sigmoid(x)))),
     lambda g, z: op.Neg(op.Mul(g, z)), dtypes=FLOAT)

# ---------------------------------------------------------------- roots

rule("sqrt(x * x) = |x|", lambda x: op.Sqrt(op.Mul(x, x)), lambda x: op.Abs(x), dtypes=FLOAT)
rule("sqrt(square(x)) = |x|", lambda x: op.Sqrt(op.Square(x)), lambda x: op.Abs(x), dtypes=FLOAT)
