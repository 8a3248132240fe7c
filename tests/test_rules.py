"""Every rule of every table, tested by itself: it fires on its own pattern and keeps the values."""
import numpy as np
import pytest

import graphflow.ops.nn_ops  # noqa: F401
from graphflow.ops import opdef
from graphflow.passes import pipeline, rewrite
from graphflow.passes.check import RuleFailed, check_rule
from graphflow.passes.rewrite import Missing, Rule, Table, op, rule

assert pipeline.PIPELINE

RULES = [pytest.param(t, r, id=f"{t.name}: {r.name}") for t in rewrite.TABLES.values() for r in t.rules]


@pytest.mark.parametrize("table, rule", RULES)
def test_rule(table, rule):
    check_rule(rule)


def test_no_rule_names_an_op_that_does_not_exist():
    for table in rewrite.TABLES.values():
        for r in table.rules:
            if isinstance(r, Rule):
                r.compile()


def test_a_rule_that_changes_values_is_refused():
    wrong = Rule("x + y = x - y", lambda x, y: op.Add(x, y), lambda x, y: op.Sub(x, y))
    with pytest.raises(RuleFailed, match="changes values"):
        check_rule(wrong)


def test_a_rule_that_cannot_fire_is_refused():
    dead = Rule("neg(neg(x)) with an impossible condition", lambda x: op.Neg(op.Neg(x)), lambda x: x, where=lambda x: False)
    with pytest.raises(RuleFailed, match="never fires"):
        check_rule(dead)


def test_a_rule_for_a_missing_op_is_skipped_and_named():
    table = Table("t")
    rule("uses nothing", lambda x: op.NoSuchOp(x), lambda x: x, table=table)
    assert table.of(opdef.REGISTRY["Neg"]) == []
    assert table.missing == {"uses nothing": "NoSuchOp"}
    with pytest.raises(Missing, match="NoSuchOp"):
        table.rules[0].compile()


def test_names_of_rules_are_unique_in_a_table():
    table = Table("t")
    rule("r", lambda x: op.Neg(x), lambda x: x, table=table)
    with pytest.raises(ValueError, match="already"):
        rule("r", lambda x: op.Neg(x), lambda x: x, table=table)


def test_a_bare_parameter_is_no_pattern():
    with pytest.raises(ValueError, match="pattern"):
        Rule("r", lambda x: x, lambda x: x).compile()


def test_int_rules_do_not_touch_floats():
    """NaN * 0 is NaN, and `not x < y` is not `x >= y` for NaN: these rules are declared for integers."""
    by_name = {r.name: r for r in rewrite.TABLES["algebra"].rules}
    assert all(d.is_integer for name in ("x * 0 = 0", "not Less is GreaterEqual", "(x + c1) + c2 = x + (c1 + c2)")
               for d in by_name[name].dtypes)


def _keeps_values(build, value):
    """`value` through the algebra table and without it."""
    from graphflow.graph import Spec
    from graphflow.passes.check import compute, evaluate
    from graphflow.passes.program import Program
    from graphflow.types import as_dtype

    with opdef.scratch() as g:
        x = g.stand_in(Spec(as_dtype(value.dtype), value.shape))
        y = build(x)
    after = rewrite.rewrite(Program((("feed", x, x),), (y,)), rewrite.TABLES["algebra"])
    return compute([y], {x: value})[0], evaluate(after, {x: value})[0]


@pytest.mark.parametrize("build", [lambda x: op.Mul(x, 0), lambda x: op.Sub(x, x), lambda x: op.RealDiv(x, x), lambda x: op.Maximum(x, x),
                                   lambda x: op.RealDiv(x, 4), lambda x: op.Pow(x, 2), lambda x: op.RealDiv(1, op.Sqrt(x)),
                                   lambda x: op.Neg(op.Neg(x))])
def test_nan_and_infinities_stay(build):
    want, have = _keeps_values(build, np.array([np.nan, np.inf, -np.inf, 0.0, 1.0]))
    np.testing.assert_array_equal(have, want)


def test_an_addend_that_gives_the_shape_is_kept():
    with opdef.scratch():
        zeros = opdef.constant(np.zeros((2, 3)))
    want, have = _keeps_values(lambda x: op.Add(x, zeros), np.array([1.0, 2.0, 3.0]))
    assert have.shape == (2, 3)
    np.testing.assert_array_equal(have, want)
