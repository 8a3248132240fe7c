"""Kernel IR of every op: the interpreter against NumPy, in the lowered and in the linear form, with every index checked.

Nothing is compiled here: kernels run in `codegen/interp.py`, inside the real plan (arena, in-place results, copies).
"""
from __future__ import annotations

import random
from contextlib import ExitStack, contextmanager
from unittest import mock

import numpy as np
import pytest
import test_ops
import test_random_graphs as graphs

import graphflow as tf
from graphflow import types
from graphflow.codegen import interp, ir, lower, schedule, simplify
from graphflow.debug import checked
from graphflow.flags import flags
from graphflow.ops.opdef import REGISTRY
from graphflow.runtime import executable, plan, runner

pytestmark = pytest.mark.cpu_only(reason="the interpreter takes the place of the CPU's compiler")


class _Stub:
    """Instead of the compiler: every text has address 0."""

    @staticmethod
    def compile_kernels(sources):
        return [0] * len(sources)

    @staticmethod
    def begin(source):
        pass


def _native(self, v, p, fresh):
    """A run of a plan whose kernels the interpreter executes."""
    for pc, row in enumerate(p.code.reshape(-1, runner.WORDS)):
        unit = p.unit_at.get(pc)
        if row[runner.OPCODE] == runner.HOST:
            self._host(p, unit, fresh)
        elif row[runner.OPCODE] == runner.CALL:
            wanted, failed = checked._interpreted(p, unit, fresh)
            if failed:
                self._explain_failure(p, unit, 1)
            for b, value in wanted.items():
                if b.role != "tmp":
                    checked._view(p, b, fresh)[...] = value.reshape(p.shape[b])
        elif row[runner.OPCODE] in (runner.COPY, runner.COMMIT):
            checked._step(p, row)


@contextmanager
def interpreted(products=False):
    """Sessions inside run their kernels by the interpreter; contractions become plain folds."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(plan, "native", _Stub))
        stack.enter_context(mock.patch.object(executable._Run, "_native", _native))
        stack.enter_context(mock.patch.object(executable._Run, "again", lambda self: None))
        stack.enter_context(mock.patch.object(plan.contract, "engine", lambda op: None))
        yield


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


# ---------------------------------------------------------------- every op


@pytest.mark.parametrize("optimize", [1, 0])
@test_ops.every_op
def test_kernels_of_every_op(op, optimize):
    if op.type.startswith("Attention"):
        pytest.skip("its kernel text has no Kernel IR; tests/test_attention.py compares the compiled one")
    for args, attrs in test_ops.cases(op):
        for shapes in (None, lambda a: [None] * np.ndim(a)):
            feeds, outputs = test_ops.call(op, args, attrs, shapes)
            wanted = test_ops.run(outputs, feeds)
            with interpreted(), flags.override(optimize=optimize, check=1), tf.Session() as sess:
                found = sess.run(outputs, feeds)
            for w, f, t in zip(wanted, found, outputs):
                test_ops.assert_same(f, w, t.dtype, max(op.tolerance, 4) * 4, note=f"{op.type} {attrs}")


def programs(count, floats=False):
    for seed in range(count):
        yield graphs.Maker(random.Random(7000 + seed), 12, floats=floats).p


@pytest.mark.parametrize("mode", ["full", "unoptimised", "small limits"])
def test_kernels_of_random_programs(mode):
    count = graphs.BIG or 25
    for p in programs(count):
        with interpreted(), ExitStack() as stack:
            if mode == "small limits":
                stack.enter_context(graphs.small_limits())
            graphs.checked(p, lambda p: graphs.compare(p, mode, optimize=int(mode != "unoptimised"), check=1))


# ---------------------------------------------------------------- the interpreter itself


def grid(*sizes):
    return [ir.Axis(n) for n in sizes]


def at(*axes):
    return tuple(ir.axis(a) for a in axes)


def buffer(role, *sizes, dtype=types.float32):
    return ir.Buffer(dtype, sizes, role)


def test_a_fold_a_scan_and_a_scatter():
    x, y, z, w, ids = buffer("in", 3, 4), buffer("out", 3), buffer("out", 3, 4), buffer("out", 2), buffer("in", 3, dtype=types.int64)
    i, j, k, u, t = grid(3, 4, 4, 3, 2)
    stages = (ir.Stage(y, (i, j), at(i), ir.load(x, at(i, j)), "max", (j,)),
              ir.Stage(z, (i, k), at(i, k), ir.load(x, at(i, k)) * 2, "add", (), None, k, True),
              ir.Stage(w, (t,), at(t), ir.const(1, types.float32)),
              ir.Stage(w, (u,), (ir.load(ids, at(u)),), ir.load(y, at(u)), "add", (u,)))
    kernel = ir.Kernel("k", (x, ids, y, z, w), stages)
    ir.verify(kernel)
    a, b = np.arange(12, dtype=np.float32).reshape(3, 4), np.array([0, 1, 0])
    for form in (kernel, simplify.linear(kernel)):
        found = interp.run(form, {x: a, ids: b}, {})
        assert found[y].tolist() == [3, 7, 11]
        assert found[z].tolist() == np.concatenate([np.zeros((3, 1)), np.cumsum(2 * a, 1)[:, :-1]], 1).tolist()
        assert found[w].tolist() == [1 + 3 + 11, 1 + 7]


def test_indices_are_checked():
    x, y = buffer("in", 3), buffer("out", 3)
    i, = grid(3)
    beside = ir.Kernel("k", (x, y), (ir.Stage(y, (i,), at(i), ir.load(x, [ir.axis(i) + 1])),))
    with pytest.raises(interp.OutOfBounds, match="index 3"):
        interp.run(beside, {x: np.zeros(3, np.float32)}, {})
    with pytest.raises(interp.OutOfBounds):
        interp.run(simplify.linear(beside), {x: np.zeros(3, np.float32)}, {})
    outside = ir.Kernel("k", (x, y), (ir.Stage(y, (i,), (ir.axis(i) - 1,), ir.load(x, at(i))),))
    with pytest.raises(interp.OutOfBounds, match="index -1"):
        interp.run(outside, {x: np.zeros(3, np.float32)}, {})
    early = ir.Kernel("k", (x, y), (ir.Stage(y, (i,), at(i), ir.load(buffer("in", 3), at(i))),))
    with pytest.raises(interp.OutOfBounds, match="before"):
        interp.run(early, {x: np.zeros(3, np.float32)}, {})


def test_checks_are_reported():
    x, y = buffer("in", 3, dtype=types.int64), buffer("out", 3, dtype=types.int64)
    i, = grid(3)
    v = ir.load(x, at(i))
    kernel = ir.Kernel("k", (x, y), (ir.Stage(y, (i,), at(i), ir.check(v > 0, v, "must be positive")),))
    assert interp.run(kernel, {x: np.array([1, 2, 3])}, {})[y].tolist() == [1, 2, 3]
    with pytest.raises(interp.Failed, match="must be positive"):
        interp.run(kernel, {x: np.array([1, 0, 3])}, {})


def test_large_reductions_in_pieces_are_the_same():
    n = types.symbol("n", 100_000)
    x, y = ir.Buffer(types.float64, (n,), "in"), buffer("out", dtype=types.float64)
    i = ir.Axis(n)
    whole = simplify.linear(ir.Kernel("k", (x, y), (ir.Stage(y, (i,), (), ir.load(x, at(i)), "add", (i,)),)))
    pieces = schedule.split(whole)
    assert len(pieces) == 2
    for size in (100_000, 1, schedule.PIECE, schedule.PIECE + 1, 3 * schedule.PIECE - 1):
        values = {x: np.random.default_rng(0).standard_normal(size)}
        expected = interp.run(whole, values, {"n": size})[y]
        for k in pieces:
            values.update(interp.run(k, values, {"n": size}))
        np.testing.assert_allclose(values[y], expected, rtol=1e-12, atol=1e-10)


def test_verify_names_what_is_wrong():
    x, y = buffer("in", 3), buffer("out", 3)
    i, j = grid(3, 3)
    for stage, word in ((ir.Stage(y, (i,), at(j), ir.load(x, at(i))), "free axis"),
                        (ir.Stage(y, (i,), at(i), ir.load(buffer("in", 3), at(i))), "foreign buffer"),
                        (ir.Stage(y, (i,), (), ir.load(x, at(i))), "rank"), (ir.Stage(y, (i,), at(i), ir.load(x, at(i, i))), "rank"),
                        (ir.Stage(y, (i,), at(i), ir.cast(ir.load(x, at(i)), types.int32)), "stored")):
        with pytest.raises(AssertionError, match=word):
            ir.verify(ir.Kernel("k", (x, y), (stage,)))


# ---------------------------------------------------------------- index arithmetic


def test_linear_offsets_are_equal_to_the_indices_they_came_from():
    """Random index expressions: every offset the simplifier writes has the value of the row-major position."""
    rng = random.Random(3)
    n = types.symbol("n", 6)
    for _ in range(200):
        sizes = [rng.choice([1, 2, 3, 4, n]) for _ in range(3)]
        axes = [ir.Axis(s) for s in sizes]
        i, j, k = at(*axes)
        flat = (i * ir.size(sizes[1]) + j) * ir.size(sizes[2]) + k
        c = rng.choice([2, 3, 4, 6])
        form = rng.randrange(4)
        index, shape = {0: ([flat % c, flat // c], None), 1: ([i, j, k], sizes), 2: ([k, i * ir.size(sizes[1]) + j], None),
                        3: ([(flat // c) % 2, flat % c, k], None)}[form]
        big = shape or [1000] * len(index)
        b = ir.Buffer(types.float32, tuple(big), "in")
        offset = simplify.offset(b, index)
        grid_ = interp._Grid(interp._Machine({}, {"n": 5}), tuple(axes))
        places = [np.broadcast_to(grid_.value(e), grid_.shape) for e in index]
        wanted = np.zeros(grid_.shape, np.int64)
        for p, s in zip(places, big):
            wanted = wanted * types.evaluate(s, {"n": 5}) + p
        assert np.array_equal(np.broadcast_to(grid_.value(offset), grid_.shape), wanted), (index, offset)


_ = REGISTRY, lower
