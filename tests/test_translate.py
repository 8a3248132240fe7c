"""The short way from kernel text to LLVM: it means what Numba means, and leaves to Numba what it does not understand."""
from __future__ import annotations

import ast
import ctypes
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphflow.codegen import backend, translate
from graphflow.codegen.target import linker

KERNEL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def parsed(text):
    tree = ast.parse(text)
    namespace = backend._namespace(backend._words(tree))
    exec(compile(tree, "<kernel>", "exec"), namespace)
    return tree, namespace


def linked(module):
    backend._optimise(module)
    return KERNEL(linker().link(backend._target_machine().emit_object(module), "test"))


def both(text):
    """The function of a text, by the short way and by Numba."""
    tree, namespace = parsed(text)
    return linked(backend._translated(tree, namespace)), linked(backend._lower(namespace["kernel"]))


def called(fn, *numbers, lo=0, hi=0):
    sizes = np.array(numbers or [0], np.int64)
    return fn(None, sizes.ctypes.data, lo, hi)


def program(*lines, result="r"):
    lines = ["    " + x for x in lines]
    return "\n".join(["def kernel(B, S, lo, hi):", "    a = S[0]", "    b = S[1]", *lines, f"    return {result}"]) + "\n"


INTEGERS = both(program(
    "r = 0",
    "r = r * 31 + a // b", "r = r * 31 + a % b", "r = r * 31 + a // 7", "r = r * 31 + a % 7", "r = r * 31 + a // -7", "r = r * 31 + a % -7",
    "r = r * 31 + (a & b) - (a | b) + (a ^ b)", "r = r * 31 + min(a, b, 5) - max(a, b)",
    "r = r * 31 + select(a < b, 1, 0) + select(a >= b, 2, 0) + select(a == b, 4, 0) + select(a != b, 8, 0)",
    "if a < b and b > 0 or a == 3:", "    r = r + 1", "elif not a > b:", "    r = r + 2", "else:", "    r = r - 1",
    "r += 3 if a < 0 else -3"))


@given(st.integers(-40, 40) | st.integers(-2**40, 2**40), st.integers(-9, 9))
def test_arithmetic_of_integers_is_numbas(a, b):
    short, numba = INTEGERS
    assert called(short, a, b) == called(numba, a, b)


@given(st.integers(-2**40, 2**40), st.integers(-9, 9).filter(bool))
def test_division_rounds_down_as_in_python(a, b):
    quotient, rest = DIVISION
    assert (called(quotient, a, b), called(rest, a, b)) == divmod(a, b)


DIVISION = [both(program(result=r))[0] for r in ("a // b", "a % b")]


def test_a_divisor_of_zero_gives_zero():
    for fn in (*both(program(result="a // b")), *both(program(result="a % b"))):
        assert called(fn, 7, 0) == 0


LOOPS = both(program(
    "r = 0",
    "for i in range(a):", "    if i == 5:", "        continue", "    if i > 20:", "        break", "    r = r * 3 + i",
    "for i in range(b, a):", "    for j in range(i, a, 3):", "        r = r + i * j",
    "for i in range(a, b, -2):", "    r = r * 5 + i",
    "s = max(b, 1)", "for i in range(0, a, s):", "    r = r - i",
    "k = a", "while k > b:", "    k = k - 4", "    r = r * 7 + k",
    "while True:", "    r = r + 1", "    if r % 3 == 0:", "        return r"))


@given(st.integers(-5, 30), st.integers(-5, 12))
def test_loops_are_numbas(a, b):
    short, numba = LOOPS
    assert called(short, a, b) == called(numba, a, b)


ELEMENTS = """
K = np.float32(0.3)
def kernel(B, S, lo, hi):
    x = buf(B, 0)
    y = buf(B, 1)
    n = S[0]
    total = np.float32(0.0)
    bad = 0
    for i in range(lo, hi):
        v = ld_f32(x, i, 0)
        w = exp_f32(v * K) / (v + K)
        w = select(w != w, K, w)
        w = -w if v < K else fmax(w, v)
        bad = fmax(bad, select(v <= K, 0, 3))
        total = radd(total, w)
        st_f32(y, i, w, 1)
    st_f32(y, n, total, 1)
    u = to_u32(n) * to_u32(2654435761)
    st_f32(y, n + 1, to_f32(to_i32(to_u32(u >> 7))), 1)
    return bad
"""


def test_elements_and_words_have_the_same_bits():
    x = np.random.RandomState(0).normal(size=37).astype(np.float32)
    results = []
    for fn in both(ELEMENTS):
        y = np.zeros(39, np.float32)
        table = np.array([x.ctypes.data, y.ctypes.data], np.int64)
        sizes = np.array([37], np.int64)
        results.append((fn(table.ctypes.data, sizes.ctypes.data, 0, 37), y))
    (bad, short), (same, numba) = results
    assert bad == same == 3
    np.testing.assert_array_equal(short[:37], numba[:37])
    np.testing.assert_array_equal(short[38], numba[38])
    np.testing.assert_allclose(short[37], numba[37], rtol=1e-5)  # a sum may be taken in any order
    k = np.float32(0.3)
    w = np.exp(x * k) / (x + k)
    np.testing.assert_allclose(short[:37], np.where(x < k, -w, np.maximum(w, x)), rtol=1e-5)


def test_what_comes_after_and_is_not_evaluated_in_vain():
    text = program("r = 0", "if b != 0 and ld_i64(pointer(b), 0, 99) > 0:", "    r = 1")
    for fn in both(text):
        assert called(fn, 1, 0) == 0  # reading at address 0 would end the process


@pytest.mark.parametrize("lines", [
    ["r = 0", "r = 1.5"],                                    # a name that changes its type
    ["r = [a, b][0]"], ["r = (lambda v: v)(a)"], ["r = a if b else 1.0"],
    ["r = 0", "for i in (1, 2):", "    r = r + i"],
    ["r = 1 if 0 < a < b else 2"], ["r = abs(a) and b"]])
def test_what_is_not_understood_goes_to_numba(lines):
    with pytest.raises(translate.Unsupported):
        tree, namespace = parsed(program(*lines))
        translate.module(tree, namespace, backend._ARGUMENTS, "kernel")


def test_numba_compiles_what_is_not_understood():
    fn = KERNEL(linker().link(backend.compile_object(program("r = 0", "for i in (1, 2):", "    r = r * 10 + i * a")), "test"))
    assert called(fn, 3, 0) == 36


GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.txt"))


def test_the_texts_of_kernels_need_no_numba_front_end():
    texts = ["# " + t for f in GOLDEN for t in ("\n" + f.read_text()).split("\n# ") if "def kernel" in t]
    assert texts
    for text in texts:
        tree, namespace = parsed(text)
        translate.module(tree, namespace, backend._ARGUMENTS, "kernel")
