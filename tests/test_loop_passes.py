"""What passes do to branches and loops: each step on a small program, against the program as it was, run with NumPy."""
from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf
from graphflow import types
from graphflow.flags import flags
from graphflow.graph import Operation, Spec
from graphflow.ops import control as forms
from graphflow.ops import opdef
from graphflow.passes import control, evaluate, pipeline
from graphflow.passes.fold import size_vector
from graphflow.passes.program import Program
from graphflow.passes.rewrite import op, recording

T, B, D, H = 5, 2, 3, 4


@pytest.fixture(autouse=True)
def graph():
    with types.recording_guards(), opdef.Scratch().as_default() as g:
        yield g


def dense(array, dtype=types.float32):
    return opdef.constant(np.asarray(array, dtype.np), dtype)


def integer(n):
    return dense(n, types.int32)


def size(n):
    return op.Static(value=(n,), sizes=(), dtype=types.int32)


def zeros(*sizes, dtype=types.float32):
    return forms.zeros_op(sizes=sizes, dtype=dtype)


def blank(*sizes, dtype=types.float32):
    return forms.blank(sizes=sizes, dtype=dtype)


class Data:
    """Inputs of a program, with values."""

    def __init__(self, g, seed=0):
        self.g, self.rng, self.values = g, np.random.default_rng(seed), {}

    def __call__(self, *sizes, dtype=types.float32, value=None):
        t = self.g.stand_in(Spec(dtype, sizes))
        shape = tuple(types.hint(n) for n in sizes)
        self.values[t] = (self.rng.normal(size=shape) if value is None else np.asarray(value)).astype(dtype.np)
        return t

    def program(self, *outputs, effects=()):
        return Program(tuple(("feed", t, t) for t in self.values), outputs, (), tuple(effects))


@pytest.fixture
def data(graph):
    return Data(graph)


def inside(g, captures, build, variables):
    """A program built on stand-ins: for variables, and for outer tensors as they are asked for."""
    inputs = [("variable", slot, g.stand_in(Spec(t.dtype, t.sizes))) for slot, t in variables]
    asked = {}

    def take(t):
        if t not in asked:
            asked[t] = g.stand_in(Spec(t.dtype, t.sizes, t.known))
        return asked[t]

    found = build(*[t for _, _, t in inputs], take=take)
    inputs += [("capture", captures.setdefault(t, len(captures)), inner) for t, inner in asked.items()]
    return tuple(inputs), found


def loop(g, cond, body, inits, trip=None, checked=False):
    """A Loop; `cond` and `body` take the variables, and `take`, which brings an outer tensor inside."""
    slots = [(forms.Slot(f"v{i}"), t) for i, t in enumerate(inits)]
    captures = {}
    work, news = inside(g, captures, body, slots)
    ask, going = inside(g, captures, cond, slots)
    news = news if isinstance(news, (list, tuple)) else [news]
    specs = tuple(Spec(t.dtype, t.sizes) for t in inits)
    attrs = {"cond": Program(ask, (going,)), "body": Program(work, (), tuple((s, t) for (s, _), t in zip(slots, news))), "specs": specs,
             "trip": trip, "checked": checked}
    return Operation(g, 0, "loop", forms.loop_op, (*inits, *captures), (), attrs, specs).outputs


def branch(g, pred, then, otherwise):
    captures, sides = {}, []
    for build in (then, otherwise):
        inputs, found = inside(g, captures, build, [])
        sides.append(Program(inputs, tuple(found)))
    known = [a if a is not None else b for a, b in zip(sides[0].outputs, sides[1].outputs)]
    specs = tuple(Spec(t.dtype, t.sizes) for t in known)
    return Operation(g, 0, "branch", forms.branch_op, (pred, *captures), (), {"branches": tuple(sides), "specs": specs}, specs).outputs


def below(n):
    return lambda i, *_, take: op.Less(i, integer(n) if isinstance(n, int) else take(n))


def up(i):
    return op.Add(i, integer(1))


def smaller(program, data, exact=False, run=control.control):
    """The program after the pass, which gives the same values; and what was done."""
    want = evaluate.evaluate(program, data.values)
    with recording() as changes:
        after = run(program)
    pipeline.verify(after, "control")
    for part in parts(after):
        pipeline.verify(part, "control")
    have = evaluate.evaluate(after, data.values)
    for a, b in zip(want, have):
        np.testing.assert_allclose(b, a, rtol=0 if exact else 2e-5, atol=0 if exact else 2e-5)
        assert a.dtype == b.dtype
    return after, [name for name, _ in changes]


def parts(program):
    found = []
    for o in program.ops():
        for p in [v for v in o.attrs.values() if isinstance(v, Program)] + list(o.attrs.get("branches", ())):
            found += [p, *parts(p)]
    return found


def only(program, kind=forms.loop_op):
    found, = [o for o in program.ops() if o.opdef is kind]
    return found


def body_types(program):
    return [o.type for o in only(program).attrs["body"].ops()]


# ---------------------------------------------------------------- cleaning


def test_what_nobody_reads_is_dropped(graph, data):
    x, y = data(B), data(B)
    outs = loop(graph, below(T), lambda i, a, b, take: [up(i), op.Add(a, take(x)), op.Mul(b, take(y))], [integer(0), x, y])
    after, _ = smaller(data.program(outs[1]), data)
    assert len(only(after).outputs) == 2 and len(only(after).inputs) == 3 and "Mul" not in body_types(after)


def test_what_the_condition_needs_stays(graph, data):
    x = data(value=0.5)
    outs = loop(graph, lambda i, a, take: op.Less(a, dense(9.0)), lambda i, a, take: [up(i), op.Add(a, dense(1.0))], [integer(0), x])
    after, _ = smaller(data.program(outs[0]), data, exact=True)
    assert len(only(after).outputs) == 2


def test_a_variable_that_never_changes_is_read_from_outside(graph, data):
    x, y = data(B), data(B)
    outs = loop(graph, below(T), lambda i, a, b, take: [up(i), op.Add(a, b), b], [integer(0), x, y])
    after, names = smaller(data.program(outs[1], outs[2]), data)
    assert "unchanging loop variable" in names and after.outputs[1] is y and len(only(after).outputs) == 2


def test_equal_variables_become_one(graph, data):
    x = data(B)
    outs = loop(graph, below(T), lambda i, j, a, b, take: [up(i), up(j), op.Mul(a, op.Sin(a)), op.Mul(op.Sin(b), b)],
                [integer(0), integer(0), x, x])
    after, names = smaller(data.program(*outs), data)
    assert "equal loop variables" in names and len(only(after).outputs) == 2 and after.outputs[2] is after.outputs[3]


def test_variables_that_go_on_differently_stay(graph, data):
    x = data(B)
    outs = loop(graph, below(T), lambda i, a, b, take: [up(i), op.Mul(a, b), op.Add(a, b)], [integer(0), x, x])
    after, _ = smaller(data.program(*outs), data)
    assert len(only(after).outputs) == 3


def test_axes_that_hash_alike_are_not_equal(graph, data):
    """-1 and -2 have one hash in Python."""
    x = data(2, 2)
    outs = loop(graph, below(T), lambda i, a, b, take: [up(i), op.ReverseV2(op.Sin(a), axis=(-1,)), op.ReverseV2(op.Sin(b), axis=(-2,))],
                [integer(0), x, x])
    after, _ = smaller(data.program(*outs), data)
    assert len(only(after).outputs) == 3


def test_iterations_that_two_equal_counters_bound_are_known(graph, data):
    x = data(B)

    def going(i, j, a, take):
        return op.LogicalAnd(op.Less(i, integer(T)), op.Less(j, integer(T)))
    outs = loop(graph, going, lambda i, j, a, take: [up(i), up(j), op.Sin(a)], [integer(0), integer(0), x], trip=T, checked=True)
    after, _ = smaller(data.program(*outs), data)
    assert only(after).attrs["trip"] == T and not only(after).attrs["checked"]
    assert after.outputs[0].op.opdef is opdef.Const  # the counter's final value


@pytest.mark.parametrize("start, step, kind, limit, trip", [(0, 2, "Less", 5, 3), (5, -1, "Greater", 1, 4), (1, 3, "LessEqual", 10, 4),
                                                           (4, -2, "GreaterEqual", 0, 3), (7, 1, "Less", 3, 0)])
def test_iterations_of_a_counter(graph, data, start, step, kind, limit, trip):
    x = data(B)
    outs = loop(graph, lambda i, a, take: getattr(op, kind)(i, integer(limit)), lambda i, a, take: [op.Add(i, integer(step)), op.Sin(a)],
                [integer(start), x])
    after, names = smaller(data.program(*outs), data)
    assert names[0] == "iterations are known"
    if trip:
        assert only(after).attrs["trip"] == trip
    else:
        assert after.outputs[1] is x


def test_a_limit_that_depends_on_data_gives_a_bound(graph, data):
    x, n = data(B), data(dtype=types.int32, value=3)

    def going(i, a, take):
        return op.LogicalAnd(op.Less(i, integer(T)), op.Less(i, take(n)))
    outs = loop(graph, going, lambda i, a, take: [up(i), op.Sin(a)], [integer(0), x])
    after, _ = smaller(data.program(*outs), data)
    assert only(after).attrs["trip"] == T and only(after).attrs["checked"]


def test_a_loop_that_never_runs_and_one_that_runs_once(graph, data):
    x = data(B)
    never = loop(graph, lambda i, a, take: dense(False, types.bool_), lambda i, a, take: [up(i), op.Sin(a)], [integer(0), x])
    once = loop(graph, below(1), lambda i, a, take: [up(i), op.Sin(op.Add(a, take(x)))], [integer(0), x])
    after, _ = smaller(data.program(never[1], once[1]), data)
    assert after.outputs[0] is x and after.outputs[1].op.type == "Sin" and not parts(after)


def test_branches(graph, data):
    x, y, p = data(B), data(B), data(dtype=types.bool_, value=True)
    outs = branch(graph, p, lambda take: [op.Sin(take(x)), op.Cos(take(y)), None], lambda take: [op.Cos(take(x)), take(y), take(y)])
    after, names = smaller(data.program(outs[0]), data)
    assert names == ["unused parts of a branch"] and len(only(after, forms.branch_op).inputs) == 2
    picked = branch(graph, dense(False, types.bool_), lambda take: [op.Sin(take(x))], lambda take: [op.Cos(take(x))])
    after, names = smaller(data.program(picked[0]), data)
    assert names == ["branch is known"] and after.outputs[0].op.type == "Cos"


def test_a_branch_whose_known_side_leaves_an_output_undefined_stays(graph, data):
    x = data(B)
    outs = branch(graph, dense(True, types.bool_), lambda take: [op.Sin(take(x)), None], lambda take: [op.Cos(take(x)), take(x)])
    program = data.program(outs[1])
    assert only(control.control(program), forms.branch_op).attrs["branches"][0].outputs == (None,)


# ---------------------------------------------------------------- what stays the same


def test_work_that_is_the_same_in_all_iterations_is_done_before(graph, data):
    x, w, v = data(B, D), data(D, D), data(D, D)
    outs = loop(graph, below(T), lambda i, a, take: [up(i), op.MatMul(a, op.MatMul(take(w), op.Tanh(take(v)), **PLAIN), **PLAIN)],
                [integer(0), x])
    after, _ = smaller(data.program(outs[1]), data)
    assert body_types(after).count("MatMul") == 1 and "Tanh" not in body_types(after)


def test_what_may_fail_stays(graph, data):
    x, w, n = data(B), data(4, B), data(dtype=types.int32, value=9)
    outs = loop(graph, below(0 * T), lambda i, a, take: [up(i), op.Add(a, op.GatherV2(take(w), take(n), axis=0, batch_dims=0))],
                [data(dtype=types.int32, value=0), x])
    after, _ = smaller(data.program(outs[1]), data, exact=True)  # an index outside, were it computed
    assert "GatherV2" in body_types(after)


def test_what_may_fail_is_not_lifted_either(graph, data):
    """Rows made of a value that cannot be computed, in a loop that runs no iteration."""
    w, n, t_ = data(4, B), data(dtype=types.int32, value=9), types.symbol("t", 0)
    x = data(t_, B)

    def body(i, a, take):
        return [up(i), forms.put(a, i, op.Add(forms.row(take(x), i), op.GatherV2(take(w), take(n), axis=0, batch_dims=0)))]
    outs = loop(graph, lambda i, a, take: op.Less(i, size(t_)), body, [integer(0), zeros(t_, B)])
    after, _ = smaller(data.program(outs[1]), data)
    assert after.outputs[0].op.opdef is forms.loop_op


def test_rows_that_the_condition_reads_are_checked(graph, data):
    """It is asked once more than the body runs, when the counter is past the last row."""
    x = data(T + 1, B)

    def going(i, a, take):
        return op.LogicalAnd(op.Less(i, integer(T)), op.Less(op.Max(forms.row(take(x), i), axis=(0,), keepdims=False), dense(99.0)))
    outs = loop(graph, going, lambda i, a, take: [up(i), op.Add(a, forms.row(take(x), i))], [integer(0), data(B)])
    after, names = smaller(data.program(outs[1]), data)
    assert "rows without a check" in names
    assert "TensorArrayRead" in [o.type for o in only(after).attrs["cond"].ops()] and "TensorArrayRead" not in body_types(after)


def test_moves_and_small_numbers_that_are_spread_stay(graph, data):
    x, w, s = data(B, D), data(D, B), data(1)

    def body(i, a, take):
        return [up(i), op.Add(op.Mul(a, op.BroadcastTo(take(s), dense([B, D], types.int32))), op.Transpose(take(w), perm=(1, 0)))]
    outs = loop(graph, below(T), body, [integer(0), x])
    after, _ = smaller(data.program(outs[1]), data)
    assert {"BroadcastTo", "Transpose"} < set(body_types(after)) and set(only(after).inputs[2:]) == {w, s}


# ---------------------------------------------------------------- slots

PLAIN = {"transpose_a": False, "transpose_b": False, "conj_a": False, "conj_b": False}


def written(g, data, n=T, slots=T, init=None, read=False):
    """A loop that writes rows to slots with a mask; outputs: counter, slots, mask, state."""
    init = zeros(slots, B) if init is None else init

    def body(i, buf, mask, h, take):
        at = forms.unwritten(mask, i)
        new = op.Sin(h)
        if read:
            new = op.Add(new, forms.row(buf, i))
        return [up(i), forms.put(buf, at, new), forms.put(mask, at, dense(True, types.bool_)), new]
    return loop(g, below(n), body, [integer(0), init, zeros(slots, dtype=types.bool_), data(B)])


def test_slots_written_once_need_no_mask(graph, data):
    after, names = smaller(data.program(written(graph, data)[1]), data)
    assert "slots are written once" in names and "slots begin as anything" in names
    assert only(after).inputs[1].op.opdef is forms.blank and not any(t.dtype is types.bool_ for t in only(after).inputs)


def test_the_mask_of_a_full_array_is_true(graph, data):
    after, _ = smaller(data.program(*written(graph, data)[1:3]), data)
    assert after.outputs[1].op.opdef is not forms.loop_op and "TensorArraySlot" not in body_types(after)


def test_an_array_with_more_slots_than_iterations_keeps_its_zeros(graph, data):
    after, names = smaller(data.program(*written(graph, data, slots=T + 2)[1:3]), data)
    assert "slots are written once" in names and "slots begin as anything" not in names


def test_an_array_with_fewer_slots_than_iterations_is_checked(graph, data):
    outs = written(graph, data, n=T, slots=T - 1)
    after = control.control(data.program(outs[1]))
    assert "TensorArraySlot" in body_types(after)


def test_an_array_that_is_read_keeps_what_it_begins_with(graph, data):
    init = data(T, B)
    after, names = smaller(data.program(written(graph, data, init=init, read=True)[1]), data)
    assert "rows are read before they are written" in names and "rows without a check" in names
    assert init in only(after).inputs[3:]


def test_a_row_that_was_written_before_is_read_from_the_variable(graph, data):
    """Reads of the row before: they see what the loop wrote."""
    def body(i, buf, take):
        before = forms.recall(buf, op.Maximum(op.Sub(i, integer(1)), integer(0)))
        return [up(i), forms.put(buf, i, op.Add(before, dense(1.0)))]
    outs = loop(graph, below(T), body, [integer(0), data(T, B)])
    _, names = smaller(data.program(outs[1]), data)
    assert "rows are read before they are written" not in names and "slots begin as anything" not in names


def test_what_is_made_of_rows_needs_no_loop(graph, data):
    x, lengths = data(T, B), data(B, dtype=types.int32, value=[2, 4])

    def body(i, a, b, c, h, take):
        row = forms.recall(take(x), i)
        return [up(i), forms.put(a, i, op.Tanh(row)), forms.put(b, i, op.GreaterEqual(i, take(lengths))), forms.put(c, i, i), op.Sin(h)]
    outs = loop(graph, below(T), body, [integer(0), blank(T, B), blank(T, B, dtype=types.bool_), blank(T, dtype=types.int32), data(B)])
    after, names = smaller(data.program(*outs[1:]), data)
    assert "rows that need no loop" in names and len(only(after).outputs) == 2


def test_what_is_kept_of_the_state_is_not_made_again(graph, data):
    """The loop computes these functions of its state anyway: they are kept, not computed from what else is kept."""
    def body(i, h, a, b, take):
        z = op.Mul(h, dense(0.5))
        gate = op.Sigmoid(z)
        return [up(i), op.Mul(gate, op.Cos(h)), forms.put(a, i, z), forms.put(b, i, gate)]
    outs = loop(graph, below(T), body, [integer(0), data(B), blank(T, B), blank(T, B)])
    after, _ = smaller(data.program(*outs[1:]), data)
    assert len(only(after).outputs) == 4 and [o.type for o in after.ops()].count("Sigmoid") == 0


def test_a_kept_counter_is_the_index(graph, data):
    x = data(T, B)
    kept = loop(graph, below(T), lambda i, s, take: [up(i), forms.put(s, i, i)], [integer(0), blank(T, dtype=types.int32)])
    outs = loop(graph, lambda k, a, take: op.GreaterEqual(k, integer(0)),
                lambda k, a, take: [op.Sub(k, integer(1)), op.Mul(op.Sin(a), forms.row(take(x), forms.recall(take(kept[1]), k)))],
                [op.Sub(kept[0], integer(1)), data(B)])
    after, names = smaller(data.program(outs[1]), data)
    assert "rows of 0, 1, 2, ..." in names and only(after).attrs["trip"] == T and "TensorArrayRead" not in body_types(after)


# ---------------------------------------------------------------- products


def cell(g, data, n_limit=None, symbolic=False):
    """h' = tanh([x_t, h] W), ys[t] = h'; then the loop of its gradient for W, from h and x_t."""
    t_, b_ = (types.symbol("t", T), types.symbol("b", B)) if symbolic else (T, B)
    x, w, h0 = data(t_, b_, D), data(D + H, H), data(b_, H)
    limit = size(t_) if symbolic else integer(T)

    def going(i, *_, take):
        first = op.Less(i, limit)
        return first if n_limit is None else op.LogicalAnd(first, op.Less(i, take(n_limit)))

    def body(i, h, ys, hs, take):
        row = forms.row(take(x), i)
        new = op.Tanh(op.MatMul(op.ConcatV2(row, h, axis=1), take(w), **PLAIN))
        return [up(i), new, forms.put(ys, i, new), forms.put(hs, i, h)]
    _, h, ys, hs = forward = loop(g, going, body, [integer(0), h0, zeros(t_, b_, H), blank(t_, b_, H)])
    dys = data(t_, b_, H)

    def back(k, dh, dw, db, dx, take):
        d = op.Mul(op.Add(dh, forms.recall(take(dys), k)), op.Sub(dense(1.0), op.Square(forms.recall(take(ys), k))))
        both = op.ConcatV2(forms.recall(take(x), k), forms.recall(take(hs), k), axis=1)
        dboth = op.MatMul(d, take(w), **{**PLAIN, "transpose_b": True})
        dx_row = op.Slice(dboth, dense([0, 0], types.int32), size_vector((b_, D)))
        dh_row = op.Slice(dboth, dense([0, D], types.int32), size_vector((b_, H)))
        return [op.Sub(k, integer(1)), dh_row, op.Add(dw, op.MatMul(both, d, **{**PLAIN, "transpose_a": True})),
                op.Add(db, op.Sum(d, axis=(0,), keepdims=False)),
                op.TensorScatterAdd(dx, op.Reshape(k, dense([1, 1], types.int32)), op.ExpandDims(dx_row, axis=0))]
    backward = loop(g, lambda k, *_, take: op.GreaterEqual(k, integer(0)), back,
                    [op.Sub(forward[0], integer(1)), zeros(b_, H), zeros(D + H, H), zeros(H), zeros(t_, b_, D)])
    return forward, backward


@pytest.mark.parametrize("symbolic", [False, True])
def test_products_of_rows_are_one_before_the_loop(graph, data, symbolic):
    forward, _ = cell(graph, data, symbolic=symbolic)
    after, names = smaller(data.program(forward[1], forward[2]), data)
    assert "product of a concatenation" in names and "products of all rows" in names
    assert body_types(after).count("MatMul") == 1 and [o.type for o in after.ops()].count("MatMul") == 1
    assert "ConcatV2" not in body_types(after)


@pytest.mark.parametrize("symbolic", [False, True])
def test_a_gradient_is_summed_after_its_loop(graph, data, symbolic):
    forward, backward = cell(graph, data, symbolic=symbolic)
    after, names = smaller(data.program(*backward[1:4]), data)
    assert "sums of products" in names and "columns of a product" in names
    _, second = [o for o in after.ops() if o.opdef is forms.loop_op]
    kinds = [o.type for o in second.attrs["body"].ops()]
    assert kinds.count("MatMul") == 1 and "Sum" not in kinds and len(second.outputs) == 3  # counter, state, stack


def test_products_that_are_only_written_are_one_after_the_loop(graph, data):
    _, backward = cell(graph, data)
    after, names = smaller(data.program(*backward[1:]), data)
    assert "rows are added to zeros" in names and "products that are only written" in names
    _, second = [o for o in after.ops() if o.opdef is forms.loop_op]
    assert [o.type for o in second.attrs["body"].ops()].count("MatMul") == 1 and len(second.outputs) == 3


@pytest.mark.parametrize("count", [0, 1, 3, T])
def test_a_loop_that_may_end_early(graph, data, count):
    """Rows that it leaves out are in no sum: memory without content is there (NaN in this test)."""
    forward, backward = cell(graph, data, n_limit=data(dtype=types.int32, value=count))
    after, names = smaller(data.program(forward[1], forward[2], *backward[1:]), data)
    assert "sums of products" in names and "iterations are known" in names
    first, second = [o for o in after.ops() if o.opdef is forms.loop_op]
    assert first.attrs["checked"] and second.attrs["checked"] and second.attrs["trip"] == T


def test_an_output_layer_is_one_product_after_the_loop(graph, data):
    w, b, r = data(H, D), data(D), data(H, H)

    def body(i, h, ys, take):
        y = op.Add(op.MatMul(h, take(w), **PLAIN), take(b))
        return [up(i), op.Tanh(op.MatMul(h, take(r), **PLAIN)), forms.put(ys, i, op.Mul(y, op.Sigmoid(take(b))))]
    outs = loop(graph, below(T), body, [integer(0), data(B, H), zeros(T, B, D)])
    after, names = smaller(data.program(*outs[1:]), data)
    assert "products that are only written" in names and body_types(after).count("MatMul") == 1


def test_a_product_that_the_loop_reads_stays(graph, data):
    w, r = data(H, H), data(H, H)

    def body(i, h, ys, take):
        y = op.MatMul(h, take(w), **PLAIN)
        return [up(i), op.Tanh(op.MatMul(y, take(r), **PLAIN)), forms.put(ys, i, y)]
    outs = loop(graph, below(T), body, [integer(0), data(B, H), zeros(T, B, H)])
    _, names = smaller(data.program(*outs[1:]), data)
    assert "products that are only written" not in names


def test_a_sum_that_the_loop_reads_stays(graph, data):
    def body(i, h, total, take):
        return [up(i), op.Tanh(op.Add(h, op.Sum(total, axis=(0,), keepdims=False))),
                op.Add(total, op.MatMul(h, h, **{**PLAIN, "transpose_a": True}))]
    outs = loop(graph, below(T), body, [integer(0), data(B, H), zeros(H, H)])
    _, names = smaller(data.program(*outs[1:]), data)
    assert "sums of products" not in names


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
def test_sums_of_products_with_transposes_and_a_start(graph, data, ta, tb):
    start, w = data(H, H), data(H, H)

    def body(i, h, total, take):
        a, b = (h if ta else op.Transpose(h, perm=(1, 0))), (op.Transpose(op.Sin(h), perm=(1, 0)) if tb else op.Sin(h))
        product = op.MatMul(a, b, **{**PLAIN, "transpose_a": ta, "transpose_b": tb})
        return [up(i), op.Tanh(op.MatMul(h, take(w), **PLAIN)), op.Add(total, product)]
    outs = loop(graph, below(T), body, [integer(0), data(B, H), start])
    after, names = smaller(data.program(*outs[1:]), data)
    assert "sums of products" in names and body_types(after).count("MatMul") == 1


# ---------------------------------------------------------------- random loops


@pytest.mark.parametrize("seed", range(25))
def test_random_loops(graph, seed):
    """Random bodies over counters, rows, masks, sums and states; with a known or data-dependent number of iterations."""
    data = Data(graph, seed)
    rng = np.random.default_rng(seed)
    early = data(dtype=types.int32, value=rng.integers(0, T + 1)) if rng.random() < 0.4 else None
    down = early is None and rng.random() < 0.4
    x, w, s = data(T, B, H), data(H, H), data(B, H)
    inits = [integer(T - 1 if down else 0), data(B, H), s, zeros(T, B, H), zeros(T, dtype=types.bool_), zeros(H, H), data(H), data(T, B, H)]

    def going(i, *_, take):
        first = op.GreaterEqual(i, integer(0)) if down else op.Less(i, integer(T))
        return first if early is None else op.LogicalAnd(op.Less(i, take(early)), first)

    def body(i, h, g, ys, mask, total, sums, carried, take):
        pool = [h, g, take(s), forms.row(take(x), i), forms.recall(carried, i)]
        for _ in range(rng.integers(2, 7)):
            a, b = (pool[j] for j in rng.integers(0, len(pool), 2))
            pool.append(MAKE[rng.integers(len(MAKE))](a, b, take(w)))
        one, two, three, four, five, six = (pool[j] for j in rng.integers(0, len(pool), 6))
        at = forms.unwritten(mask, i)
        news = [op.Add(i, integer(-1 if down else 1)), op.Tanh(op.Add(h, one)), op.Tanh(op.Mul(g, two)) if rng.random() < 0.7 else g,
                forms.put(ys, at, three), forms.put(mask, at, dense(True, types.bool_)),
                op.Add(total, op.MatMul(four, op.Tanh(five), **{**PLAIN, "transpose_a": True})),
                op.Add(sums, op.Sum(five, axis=(0,), keepdims=False)), forms.put(carried, i, six)]
        return news
    outs = loop(graph, going, body, inits)
    kept = [outs[j] for j in range(1, len(outs)) if rng.random() < 0.7] or [outs[1]]
    program = data.program(*kept)
    smaller(program, data)
    old, flags.check = flags.check, 1
    try:
        after = pipeline.run(program)
    finally:
        flags.check = old
    for a, b in zip(evaluate.evaluate(program, data.values), evaluate.evaluate(after, data.values)):
        np.testing.assert_allclose(b, a, rtol=2e-4, atol=2e-4)


MAKE = [lambda a, b, w: op.Add(a, b), lambda a, b, w: op.Mul(a, op.Sigmoid(b)), lambda a, b, w: op.Tanh(op.MatMul(a, w, **PLAIN)),
        lambda a, b, w: op.MatMul(b, w, **{**PLAIN, "transpose_b": True}),
        lambda a, b, w: op.MatMul(op.ConcatV2(a, b, axis=1), op.ConcatV2(w, op.Sin(w), axis=0), **PLAIN),
        lambda a, b, w: op.Slice(op.MatMul(op.ConcatV2(b, a, axis=1), square(w), **PLAIN), dense([0, 2], types.int32),
                                 dense([B, H], types.int32))]


def square(w):
    """[2 H, 2 H] of the elements of w."""
    tall = op.ConcatV2(w, op.Cos(w), axis=0)
    return op.ConcatV2(tall, tall, axis=1)


# ---------------------------------------------------------------- in the pipeline


def test_loops_inside_loops_and_branches(graph, data):
    x, w, p = data(T, B, H), data(H, H), data(dtype=types.bool_, value=True)

    def inner_loop(g, h, rows, weights):
        def body(i, a, take):
            return [up(i), op.Tanh(op.MatMul(op.Add(a, forms.row(take(rows), i)), take(weights), **PLAIN))]
        return loop(g, below(T), body, [integer(0), h])[1]
    outs = loop(graph, below(3), lambda i, h, take: [up(i), inner_loop(graph, h, take(x), take(w))], [integer(0), data(B, H)])
    sides = branch(graph, p, lambda take: [inner_loop(graph, take(outs[1]), take(x), take(w))], lambda take: [take(outs[1])])
    program = data.program(sides[0])
    after = pipeline.run(program)
    np.testing.assert_allclose(evaluate.evaluate(after, data.values)[0], evaluate.evaluate(program, data.values)[0], rtol=1e-5, atol=1e-5)


def test_loops_are_looked_at_after_what_is_inside_them(graph, data):
    """What is inside must be primitives that stand directly on each other."""
    def body(i, h, total, take):
        return [up(i), op.Tanh(h), op.Add(total, op.Identity(op.MatMul(h, h, **{**PLAIN, "transpose_a": True})))]
    outs = loop(graph, below(T), body, [integer(0), data(B, H), zeros(H, H)])
    names = [p.name for p in pipeline.PIPELINE]
    rest = [p for p in pipeline.PIPELINE if p.name != "control"]
    rest.insert(names.index("inside"), pipeline.PIPELINE[names.index("control")])
    found = []
    for passes in (pipeline.PIPELINE, rest):
        after = pipeline.run(data.program(outs[2]), passes=passes)
        found.append(body_types(after).count("MatMul"))
    assert found == [0, 1]


def test_explain_tells(graph, data):
    forward, backward = cell(graph, data)
    report = pipeline.Report()
    pipeline.run(data.program(*backward[1:]), report=report)
    record = next(r for r in report.records if r.name == "control")
    assert {"sums of products", "products of all rows", "equal loop variables"} & {name for name, _ in record.changes}


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("make", [tf.nn.rnn_cell.BasicRNNCell, tf.nn.rnn_cell.LSTMCell, tf.nn.rnn_cell.GRUCell])
def test_training_steps_of_cells(make, lengths):
    """Gradients of a recurrent network with passes and without."""
    rng = np.random.default_rng(0)
    with tf.Graph().as_default():
        x, n = tf.placeholder(tf.float32, [None, None, D]), tf.placeholder(tf.int32, [None])
        y, _ = tf.nn.dynamic_rnn(make(H), x, sequence_length=n if lengths else None, dtype=tf.float32)
        loss = tf.reduce_sum(tf.square(y))
        grads = tf.gradients(loss, [x, *tf.trainable_variables()])
        weights = [rng.normal(size=v.shape.as_list()) * 0.3 for v in tf.trainable_variables()]
        feed, found = {x: rng.normal(size=(B, T, D)), n: [2, 4]}, []
        for optimize in (0, 1):
            old, flags.optimize = flags.optimize, optimize
            try:
                with tf.Session() as sess:
                    for v, value in zip(tf.trainable_variables(), weights):
                        v.load(value, sess)
                    found.append(sess.run([y, *grads], feed if lengths else {x: feed[x]}))
            finally:
                flags.optimize = old
    for a, b in zip(*found):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- loops that two devices share


def apart(program, data):
    """The loop, and the slots that its condition asks for, after the pass; none of these is read by anything but what decides."""
    after, names = smaller(program, data, run=pipeline.apart)
    new = only(after)
    ask, work = new.attrs["cond"], new.attrs["body"]
    of = {slot: t for kind, slot, t in work.inputs if kind == "variable"}
    asked = {slot for kind, slot, t in ask.inputs if kind == "variable" and any(t in o.inputs for o in ask.ops())}
    return new, names, {of[s]: dict(work.writes)[s] for s in asked if s in of}


def test_what_decides_is_counted_for_itself(graph, data):
    x, n = data(B), data(dtype=types.int32, value=4)
    outs = loop(graph, below(n), lambda i, a, take: [up(i), op.Add(op.Mul(a, take(x)), op.Cast(i, DstT=types.float32))], [integer(0), x])
    new, names, asked = apart(data.program(*outs), data)
    assert "what decides is computed twice" in names and len(new.outputs) == 3
    (counter, following), = asked.items()
    assert [o for o in new.attrs["body"].ops() if counter in o.inputs] == [following.op]


def test_all_that_decides_is_counted_for_itself(graph, data):
    """Two numbers, one made of the other, and an array that one of them indexes."""
    x = data(B)
    outs = loop(graph, lambda i, j, a, take: op.LogicalAnd(op.Less(i, integer(40)), op.Less(j, integer(9))),
                lambda i, j, a, take: [op.Add(i, j), up(j), op.Mul(a, op.Cast(op.Add(i, j), DstT=types.float32))],
                [integer(1), integer(2), x])
    new, names, asked = apart(data.program(*outs), data)
    assert names and len(new.outputs) == 5 and len(asked) == 2
    body = new.attrs["body"]
    assert {o for o in body.ops() if not set(asked).isdisjoint(o.inputs)} <= {t.op for t in asked.values()}


@pytest.mark.parametrize("case", ["known", "alone", "large"])
def test_loops_that_have_nothing_to_keep_apart(graph, data, case):
    x, n = data(100), data(dtype=types.int32, value=4)
    if case == "known":  # how often it goes round is known: nobody asks
        outs = loop(graph, below(T), lambda i, a, take: [up(i), op.Mul(a, op.Cast(i, DstT=types.float32))], [integer(0), x], trip=T)
    elif case == "alone":
        outs = loop(graph, below(n), lambda i, a, take: [up(i), op.Sin(a)], [integer(0), x])
    else:  # the loop goes on as long as a fold of much data says so
        outs = loop(graph, lambda i, a, take: op.Less(op.Sum(op.Square(a), axis=(0,), keepdims=False), dense(900.0)),
                    lambda i, a, take: [up(i), op.Mul(a, dense(1.1))], [integer(0), x])
    after, names = smaller(data.program(*outs), data, run=pipeline.apart)
    assert not names and len(only(after).outputs) == 2
