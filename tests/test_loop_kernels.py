"""Loops and branches around kernel texts in one kernel: what they compute, when they pause, what may share memory."""
from __future__ import annotations

import ctypes
import time

import numpy as np
import pytest

import graphflow as tf
from graphflow.codegen import backend, contract, ir, loops, translate, vecmath
from graphflow.codegen.compile import compile_kernels
from graphflow.codegen.emit_cpu import Emitted
from graphflow.codegen.loops import At, Call, Copy, If, Loop, Unfit, fused
from graphflow.codegen.target import linker

KERNEL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
NEVER = 1 << 62


def scalar(label, *lines, buffers, constants="", sizes=0):
    """Text as the emitter writes it for a kernel of one element."""
    head = [f"    p{k} = buf(B, {k})" for k in range(buffers)] + [f"    s{k} = S[{k}]" for k in range(sizes)]
    return "\n".join([f"# {label}", *([constants] if constants else []), "def kernel(B, S, lo, hi):", *head, "    bad = 0",
                      *[f"    {x}" for x in lines], "    return bad", ""])


def lanes(label, *lines, buffers, constants="", sizes=0):
    return scalar(label, "for i0 in range(lo, hi):", *[f"    {x}" for x in lines], buffers=buffers, constants=constants, sizes=sizes)


LESS = scalar("lt", "t1 = ld_i32(p0, 0, 0)", "t2 = t1 < to_i32(s0)", "if lo < hi:", "    st_b1(p1, 0, t2, 1)", buffers=2, sizes=1)
BELOW = scalar("lt", "t1 = ld_i32(p0, 0, 0)", "t2 = t1 < ld_i32(p2, 0, 2)", "if lo < hi:", "    st_b1(p1, 0, t2, 1)", buffers=3)
INCREASE = scalar("add", "t1 = ld_i32(p0, 0, 0)", "t2 = to_i32(t1 + K0)", "if lo < hi:", "    st_i32(p0, 0, t2, 0)",
                  buffers=1, constants="K0 = np.int32(1)")
ADD = lanes("add", "t1 = ld_i64(p0, i0, 0)", "t2 = ld_i64(p1, i0, 1)", "st_i64(p2, i0, t1 + t2, 2)", buffers=3)
STEP = scalar(
    "step", "t1 = ld_i32(p2, 0, 2)", "t2 = to_i64(t1)", "bad = fmax(bad, select((t2 >= 0) & (t2 < s0), 0, 1))",
    "t3 = fmax(fmin(t2, s0 - 1), 0) * 8",
    "for i0 in range(lo, hi):", "    t4 = K0", "    for i1 in range(8):", "        t5 = ld_f64(p0, i1 + i0 * 8, 0)",
    "        t6 = ld_f64(p1, i1, 1)", "        t7 = t5 * t6", "        t4 = radd(t4, t7)", "    t8 = ld_f64(p3, i0 + t3, 3)",
    "    t9 = t4 + t8", "    t10 = tanh_f64(t9)", "    t11 = K1 * t10", "    t12 = ld_f64(p1, i0, 1)", "    t13 = K1 * t12",
    "    t14 = t13 + t11", "    st_f64(p4, i0, t14, 4)", buffers=5, sizes=1, constants="K0 = np.float64(0.0)\nK1 = np.float64(0.5)")


def native(items, **options):
    return KERNEL(compile_kernels([fused(items, **options)])[0])


def called(fn, buffers, sizes=(0,), more=()):
    """The result of one call; `more`: addresses of kernels behind the buffers."""
    table = np.array([*[b.ctypes.data for b in buffers], *more], np.int64)
    numbers = np.array(sizes, np.int64)
    return fn(table.ctypes.data, numbers.ctypes.data, 0, 0)


def i32(*values):
    return np.array(values, np.int32)


def deadline(at=NEVER):
    return np.array([at], np.int64)


FLAG = np.uint8


@pytest.mark.parametrize("memory", [None, [0, 1, 0, None], [None, None, None, None], [0, None, 0, None]])
@pytest.mark.parametrize("turns", [0, 1, 17, 100_000])
def test_counts(memory, turns):
    fn = native([Loop([Call(LESS, 0, 0, 1)], 1, [Call(INCREASE, 2, 1, 1)])], deadline=3, memory=memory)
    i, flag = i32(0), np.ones(1, FLAG)
    assert called(fn, [i, flag, i, deadline()], [turns]) == 0
    assert i[0] == turns and flag[0] == 0


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_fibonacci_with_copies(known, n):
    """Copies in one order: next = a + b, a = b, b = next, for several element counts."""
    a, b, c, i, flag = np.zeros(n, np.int64), np.arange(1, n + 1), np.zeros(n, np.int64), i32(0), np.ones(1, FLAG)
    body = [Call(ADD, 2, 1, n), Copy(2, 3, 8 * n, "i64"), Copy(3, 4, 8 * n, "i64"), Call(INCREASE, 5, 1, 1)]
    fn = native([Loop([Call(LESS, 0, 0, 1)], 1, body)], memory=[0, 1, 2, 3, 4, 0] if known else None)
    assert called(fn, [i, flag, a, b, c, i], [40]) == 0
    want = [0, 1]
    while len(want) < 42:
        want.append(want[-2] + want[-1])
    np.testing.assert_array_equal(a, want[40] * np.arange(1, n + 1))
    np.testing.assert_array_equal(b, want[41] * np.arange(1, n + 1))


def test_a_copy_of_any_bytes_may_overlap():
    x, i, flag = np.arange(20, dtype=np.uint8), i32(0), np.ones(1, FLAG)
    fn = native([Loop([Call(LESS, 0, 0, 1)], 1, [Copy(2, 3, At(1)), Call(INCREASE, 0, 0, 1)])])
    assert called(fn, [i, flag, x[2:], x], [3, 13]) == 0
    want = np.arange(20, dtype=np.uint8)
    for _ in range(3):
        want[2:15] = want[:13].copy()
    np.testing.assert_array_equal(x, want)


def recurrence(t, seed=0):
    r = np.random.default_rng(seed)
    return r.normal(size=(8, 8)) * 0.3, r.normal(size=8), r.normal(size=(t, 8))


def states(a, h, u):
    for x in u:
        h = 0.5 * h + 0.5 * np.tanh(a @ h + x)
    return h


STEPS = [Loop([Call(LESS, 0, 0, 1)], 1, [Call(STEP, 2, 1, 8), Call(INCREASE, 7, 2, 1), Copy(8, 9, 64, "f64")])]


@pytest.mark.parametrize("memory", [None, [0, 1, 2, 3, 0, 4, 5, 0, 3, 5, None]])
def test_recurrence(memory):
    a, h, u = recurrence(300)
    want, i, flag, new = states(a, h, u), i32(0), np.ones(1, FLAG), np.zeros(8)
    fn = native(STEPS, deadline=10, memory=memory)
    assert called(fn, [i, flag, a, h, i, u, new, i, h, new, deadline()], [300, 300]) == 0
    np.testing.assert_allclose(h, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("memory", [None, [0, 1, 2, 3, 0, 4, 5, 0, 3, 5, None]])
def test_a_failed_check_names_its_call(memory):
    """Row 20 of 20 is asked for: check 1 of call 1 (the condition is call 0)."""
    a, h, u = recurrence(20)
    i, flag, new = i32(0), np.ones(1, FLAG), np.zeros(8)
    fn = native(STEPS, deadline=10, memory=memory)
    assert called(fn, [i, flag, a, h, i, u, new, i, h, new, deadline()], [100, 20]) == (1 << 32) | 1
    assert i[0] >= 20


def test_the_machine_keeps_state_in_registers():
    """Nothing is loaded or stored from turn to turn but the row of u; without AVX-512 there are other registers."""
    if "+avx512f" not in backend.features():
        pytest.skip("needs AVX-512")
    text = backend.assembly(fused(STEPS, deadline=10, memory=[0, 1, 2, 3, 0, 4, 5, 0, 3, 5, None]))
    blocks = text.split("\n.LBB")
    hot = next(b for b in blocks if "vdivpd" in b)
    assert "gather" not in text and "call" not in hot
    assert not [x for x in hot.splitlines() if x.strip().startswith("vmov") and x.rstrip().endswith(")")]


# ---------------------------------------------------------------- nesting


def test_nested_loops():
    """total = sum over i < n of sum over j < i of 1, with j set to 0 by a copy."""
    i, j, zero, total, f, g = i32(0), i32(0), i32(0), i32(0), np.ones(1, FLAG), np.ones(1, FLAG)
    inner = Loop([Call(BELOW, 3, 1, 1)], 4, [Call(INCREASE, 7, 1, 1), Call(INCREASE, 3, 1, 1)])
    body = [Copy(3, 6, 4, "i32"), inner, Call(INCREASE, 0, 1, 1)]
    buffers = [i, f, i, j, g, i, zero, total]
    for memory in (None, [0, 1, 0, 2, 3, 0, 4, 5]):
        for b in (i, j, total):
            b[0] = 0
        assert called(native([Loop([Call(LESS, 0, 0, 1)], 1, body)], memory=memory), buffers, [50]) == 0
        assert total[0] == 50 * 49 // 2 and i[0] == 50


EVEN = scalar("even", "t1 = ld_i64(p0, 0, 0) & 1", "st_b1(p1, 0, t1 == 0, 1)", buffers=2)
HALVE = scalar("half", "st_i64(p0, 0, ld_i64(p0, 0, 0) >> 1, 0)", buffers=1)
TRIPLE = scalar("triple", "st_i64(p0, 0, ld_i64(p0, 0, 0) * 3 + 1, 0)", buffers=1)
ABOVE = scalar("above", "st_b1(p1, 0, ld_i64(p0, 0, 0) > 1, 1)", buffers=2)


@pytest.mark.parametrize("memory", [None, [0, 1, 0, 2, 3]])
def test_a_branch_inside(memory):
    """Steps of Collatz's sequence from 27: 111."""
    n, flag, even, count = np.array([27]), np.ones(1, FLAG), np.ones(1, FLAG), i32(0)
    body = [Call(EVEN, 2, 0, 1), If(3, [Call(HALVE, 2, 0, 1)], [Call(TRIPLE, 2, 0, 1)]), Call(INCREASE, 4, 0, 1)]
    fn = native([Loop([Call(ABOVE, 0, 0, 1)], 1, body)], memory=memory)
    assert called(fn, [n, flag, n, even, count]) == 0
    assert n[0] == 1 and count[0] == 111


def test_a_branch_alone():
    for choice, want in ((1, 13), (0, 79)):
        n, flag = np.array([26]), np.array([choice], FLAG)
        assert called(native([If(1, [Call(HALVE, 0, 0, 1)], [Call(TRIPLE, 0, 0, 1)])]), [n, flag]) == 0
        assert n[0] == want
    n, flag = np.array([26]), np.array([0], FLAG)
    assert called(native([If(1, [Call(HALVE, 0, 0, 1)])]), [n, flag]) == 0 and n[0] == 26


# ---------------------------------------------------------------- pausing


@pytest.mark.parametrize("memory", [None, [0, 1, 0, 2, None]])
def test_pauses_and_goes_on(memory):
    """A deadline that has passed: each call does some turns; what stands behind the loop runs once, at the end."""
    items = [Loop([Call(LESS, 0, 0, 1)], 1, [Call(INCREASE, 2, 1, 1)]), Call(INCREASE, 3, 1, 1)]
    fn = native(items, deadline=4, memory=memory)
    i, flag, after, seen = i32(0), np.ones(1, FLAG), i32(0), [0]
    for _ in range(10_000):
        result = called(fn, [i, flag, i, after, deadline(0)], [1000])
        if result == 0:
            break
        assert result == -1 and after[0] == 0 and seen[-1] < i[0] <= 1000
        seen.append(int(i[0]))
    assert i[0] == 1000 and after[0] == 1 and len(seen) > 5


def test_an_endless_loop_pauses():
    items = [Loop([Call(LESS, 0, 0, 1)], 1, [Call(scalar("same", "st_i32(p0, 0, ld_i32(p0, 0, 0), 0)", buffers=1), 2, 1, 1)])]
    fn, i = native(items, deadline=3), i32(0)
    begin = time.perf_counter()
    assert called(fn, [i, np.ones(1, FLAG), i, deadline(0)], [5]) == -1
    assert time.perf_counter() - begin < 5


def test_what_could_run_twice_does_not_stand_before_a_loop_that_pauses():
    with pytest.raises(Unfit, match="begins with its loop"):
        fused([Call(INCREASE, 0, 0, 1), Loop([Call(LESS, 0, 0, 1)], 1, [])], deadline=2)


# ---------------------------------------------------------------- memory


SHIFT = lanes("shift", "st_i64(p1, i0, ld_i64(p0, i0, 0) + 1, 1)", buffers=2)
DOUBLE = lanes("double", "st_i64(p1, i0, ld_i64(p0, i0, 0) * 2, 1)", buffers=2)


@pytest.mark.parametrize("memory", [None, [None] * 6, ["i", "f", "x", "y", "y", "x"]])
def test_calls_see_what_others_stored_through_other_entries(memory):
    i, flag, x, y = i32(0), np.ones(1, FLAG), np.arange(5), np.zeros(5, np.int64)
    body = [Call(SHIFT, 2, 1, 5), Call(DOUBLE, 4, 1, 5), Call(INCREASE, 0, 1, 1)]
    assert called(native([Loop([Call(LESS, 0, 0, 1)], 1, body)], memory=memory), [i, flag, x, y, y, x], [10]) == 0
    want = np.arange(5)
    for _ in range(10):
        want = (want + 1) * 2
    np.testing.assert_array_equal(x, want)


def test_memory_that_is_reused_is_of_unknown_memory():
    """Two results whose places overlap: without a key."""
    room, i, flag, total = np.zeros(12, np.int64), i32(0), np.ones(1, FLAG), np.arange(4)
    apart = lanes("apart", "st_i64(p1, i0, ld_i64(p0, i0, 99) * 2, 99)", buffers=2)
    body = [Call(SHIFT, 2, 1, 4), Call(apart, 3, 1, 4), Call(SHIFT, 5, 1, 4), Call(INCREASE, 0, 1, 1)]
    buffers = [i, flag, total, room, room[2:], room[2:], total]
    want, space = np.arange(4), np.zeros(12, np.int64)
    for _ in range(3):
        space[:4] = want + 1
        for k in range(4):
            space[2 + k] = space[k] * 2
        want = space[2:6] + 1
    fn = native([Loop([Call(LESS, 0, 0, 1)], 1, body)], memory=["i", "f", "total", None, None, None, "total"])
    assert called(fn, buffers, [3]) == 0
    np.testing.assert_array_equal(total, want)


def test_an_extent_that_is_known_at_run_time():
    i, flag, x, y = i32(0), np.ones(1, FLAG), np.zeros(9, np.int64), np.zeros(9, np.int64)
    items = [Loop([Call(LESS, 0, 0, 1)], 1, [Call(SHIFT, 2, 2, At(1)), Copy(2, 3, At(2)), Call(INCREASE, 0, 2, 1)])]
    fn = native(items, memory=[0, 1, 2, 3])
    for n in (0, 3, 9):
        i[0], x[:], y[:] = 0, 0, 0
        assert called(fn, [i, flag, x, y], [7, n, 8 * n]) == 0
        np.testing.assert_array_equal(x, [7] * n + [0] * (9 - n))


# ---------------------------------------------------------------- other texts


def test_a_product_by_a_block_kernel():
    """x = W x + 1 in a loop, where the product calls its block kernel by address."""
    r = np.random.default_rng(0)
    w, x, y, i, flag = r.normal(size=(40, 40)) / 8, r.normal(size=(40, 24)), np.zeros((40, 24)), i32(0), np.ones(1, FLAG)
    want, start = x, x.copy()
    for _ in range(6):
        want = w @ want + 1
    op = tf.matmul(tf.placeholder(tf.float64, [40, 40]), tf.placeholder(tf.float64, [40, 24])).op
    stored = {t: ir.Buffer(t.dtype, t.sizes, "in") for t in op.inputs} | {op.outputs[0]: ir.Buffer(op.outputs[0].dtype, (40, 24), "out")}
    [product] = contract.kernels("product", op, stored)
    assert isinstance(product, Emitted) and product.calls
    place = {stored[op.inputs[0]]: w, stored[op.inputs[1]]: x, stored[op.outputs[0]]: y}
    blocks = compile_kernels(product.calls)
    buffers = [i, flag, *[place[b] for b in product.buffers]]
    at = len(buffers) + len(blocks)
    plus = lanes("plus", "st_f64(p1, i0, ld_f64(p0, i0, 0) + 1.0, 1)", buffers=2)
    items = [Loop([Call(LESS, 0, 0, 1)], 1, [Call(product.source, 2, 1, product.extent), Call(plus, at, 1, 960), Call(INCREASE, 0, 1, 1)])]
    table = np.array([*[b.ctypes.data for b in buffers], *blocks, y.ctypes.data, x.ctypes.data], np.int64)
    keys = {id(b): k for k, b in enumerate((i, flag, w, x, y))}
    for memory in (None, [*[keys[id(b)] for b in buffers], *["code"] * len(blocks), keys[id(y)], keys[id(x)]]):
        x[...], i[0] = start, 0
        fn, sizes = native(items, memory=memory), np.array([6, *product.sizes], np.int64)
        assert fn(table.ctypes.data, sizes.ctypes.data, 0, 0) == 0
        np.testing.assert_allclose(x, want, rtol=1e-11, atol=1e-12)


def test_numba_compiles_what_the_short_way_does_not(monkeypatch):
    def refuse(*_, **__):
        raise translate.Unsupported("for this test")
    monkeypatch.setattr(translate, "module", refuse)
    a, h, u = recurrence(30)
    want, i, flag, new = states(a, h, u), i32(0), np.ones(1, FLAG), np.zeros(8)
    text = fused(STEPS, deadline=10, memory=[0, 1, 2, 3, 0, 4, 5, 0, 3, 5, None])
    fn = KERNEL(linker().link(backend.compile_object(text), "numba"))
    assert called(fn, [i, flag, a, h, i, u, new, i, h, new, deadline()], [30, 30]) == 0
    np.testing.assert_allclose(h, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("text", ["; LLVM", "def kernel(B, S):\n    return 0\n", "def kernel(B, S, lo, hi):\n    pass\n",
                                  "def kernel(B, S, lo, hi):\n    if lo < hi:\n        return 1\n    return 0\n",
                                  "def kernel(B, S, lo, hi):\n    p0 = buf(B, lo)\n    return 0\n",
                                  "def kernel(B, S, lo, hi):\n    t = address(function_table(B))\n    return 0\n"])
def test_other_texts_do_not_fit(text):
    with pytest.raises(Unfit):
        fused([Call(text, 0, 0, 1)])


def test_the_same_items_give_the_same_text():
    assert fused(STEPS, deadline=10) == fused(STEPS, deadline=10)
    assert loops.fused(STEPS, 10, [0, 1, 2, 3, 0, 4, 5, 0, 3, 5, None]) == loops.fused(STEPS, 10, [*"abcdaefadf", None])


# ---------------------------------------------------------------- vector math with short chains

REFERENCE = {"exp": (np.exp, -700, 700), "tanh": (np.tanh, -22, 22), "expm1": (np.expm1, -40, 700), "log": (np.log, 1e-300, 1e300),
             "log1p": (np.log1p, -0.99, 50), "sin": (np.sin, -50, 50), "cos": (np.cos, -50, 50), "sinh": (np.sinh, -300, 300),
             "cosh": (np.cosh, -300, 300), "atan": (np.arctan, -30, 30), "exp2": (np.exp2, -1000, 1000), "asin": (np.arcsin, -1, 1)}


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("t", ["f32", "f64"])
def test_functions_in_loops_keep_their_bounds(name, t):
    """In a loop their polynomials are cut otherwise, for latency; the error in ulp of the exact result stays in its bound."""
    exact, lowest, highest = REFERENCE[name]
    kind, r = {"f32": np.float32, "f64": np.float64}[t], np.random.default_rng(0)
    limit = {"exp": 85, "expm1": 85, "exp2": 120, "sinh": 80, "cosh": 80}.get(name, 1e30) if t == "f32" else highest
    x = np.concatenate([r.uniform(max(lowest, -limit), min(highest, limit), 30_000),
                        np.clip(r.normal(0, 1, 30_000), max(lowest, -limit), min(highest, limit))]).astype(kind)
    if name == "log":
        x = np.abs(x) + kind(1e-30)
    y = np.empty_like(x)
    text = lanes(name, f"st_{t}(p1, i0, {name}_{t}(ld_{t}(p0, i0, 0)), 1)", buffers=2)
    assert called(native([Call(text, 0, 0, At(0))]), [x, y], [len(x)]) == 0
    want = exact(x.astype(np.longdouble))
    ulp = np.spacing(np.abs(want).astype(kind)).astype(np.longdouble)
    assert float(np.max(np.abs(y - want) / ulp)) <= vecmath.BOUNDS[f"{name}_{t}"] + 0.01
