"""Each machine word of kernel text against NumPy, and the shape of the code LLVM makes of it."""

import ctypes

import numpy as np
import pytest

from graphflow.codegen.compile import compile_kernels

KERNEL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
NUMPY = {"f16": np.float16, "f32": np.float32, "f64": np.float64, "i8": np.int8, "u8": np.uint8, "i16": np.int16,
         "u16": np.uint16, "i32": np.int32, "u32": np.uint32, "i64": np.int64, "u64": np.uint64, "b1": np.bool_,
         "c64": np.complex64, "c128": np.complex128}
FLOATS, INTS = ("f32", "f64"), tuple(k for k in NUMPY if k[0] in "iu")


def run(text, *arrays, n=None):
    table = (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])
    return KERNEL(compile_kernels([text])[0])(table, None, 0, arrays[0].size if n is None else n)


def mapped(expression, out, *inputs):
    """`expression` over x, y, z (element types named by the inputs' dtypes) for each element."""
    names = {np.dtype(v): k for k, v in NUMPY.items()}
    lines = ["def kernel(B, S, lo, hi):", *(f"    p{k} = buf(B, {k})" for k in range(len(inputs) + 1)),
             "    for i in range(lo, hi):"]
    lines += [f"        {'xyz'[k]} = ld_{names[a.dtype]}(p{k}, i, {k})" for k, a in enumerate(inputs)]
    lines += [f"        st_{out}(p{len(inputs)}, i, {expression}, {len(inputs)})", "    return 0"]
    result = np.zeros(inputs[0].shape, NUMPY[out] if out != "bf16" else np.uint16)
    assert run("\n".join(lines) + "\n", *inputs, result) == 0
    return result


def reduced(text, start, kind, array):
    out = np.zeros(1, array.dtype)
    run(f"def kernel(B, S, lo, hi):\n    p = buf(B, 0)\n    a = {start}\n    for i in range(lo, hi):\n"
        f"        a = {text}\n    st_{kind}(buf(B, 1), 0, a, 1)\n    return 0\n", array, out)
    return out[0]


SAMPLE = np.array([0, 1, 2, 3, 100, 127], np.int64)


@pytest.mark.parametrize("kind", NUMPY)
def test_load_then_store_is_the_identity(kind):
    a = SAMPLE.astype(NUMPY[kind])
    assert (mapped("x", kind, a) == a).all()


def test_half_rounds_to_nearest_even_and_keeps_specials():
    x = np.array([1 + 2**-11, 1 + 3 * 2**-11, 1e9, -1e-9, np.nan, np.inf, 65519.0, 65520.0], np.float32)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(mapped("x", "f16", x), x.astype(np.float16))
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    np.testing.assert_array_equal(mapped("x", "f32", halves), halves.astype(np.float32))


def test_bfloat_rounds_to_nearest_even_and_keeps_nan():
    bits = np.array([0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0x7F800000, 0xFF800000], np.uint32)
    found = mapped("x", "bf16", bits.view(np.float32))
    assert found.tolist() == [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0x7F80, 0x7F80, 0xFF80]
    nans = np.array([0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32)
    assert all((b & 0x7F80) == 0x7F80 and b & 0x7F for b in mapped("x", "bf16", nans.view(np.float32)).tolist())
    a, out = np.array([0x3F80, 0xC000], np.uint16), np.zeros(2, np.float32)
    run("def kernel(B, S, lo, hi):\n    for i in range(lo, hi):\n"
        "        st_f32(buf(B, 1), i, ld_bf16(buf(B, 0), i, 0), 1)\n    return 0\n", a, out)
    assert out.tolist() == [1.0, -2.0]


@pytest.mark.parametrize("target", NUMPY)
@pytest.mark.parametrize("source", NUMPY)
def test_casts_are_numpys(source, target):
    a = np.array([0, 1, 2, 100] if source[0] in "ubif" else [0, 1 + 1j, 2, 100]).astype(NUMPY[source])
    if source[0] in "fi":
        a = a * np.array([1, -1, 1, 1]).astype(a.dtype) if target[0] != "u" else a
    drops_imaginary = source[0] == "c" and target[0] != "c" and target != "b1"
    expected = (a.real if drops_imaginary else a).astype(NUMPY[target])
    np.testing.assert_array_equal(mapped(f"to_{target}(x)", target, a), expected)


def test_casts_to_half_types_round_the_value():
    x = np.array([1 + 2**-11, 1 / 3, -2.0])
    np.testing.assert_array_equal(mapped("to_f16(x)", "f32", x), x.astype(np.float16).astype(np.float32))
    assert mapped("to_bf16(x)", "f32", x).tolist() == [1.0, 0.333984375, -2.0]


def test_float_to_int_truncates():
    x = np.array([1.9, -1.9, 0.5, -0.5], np.float64)
    assert mapped("to_i32(x)", "i32", x).tolist() == [1, -1, 0, 0]
    assert mapped("to_i64(x)", "i64", x).tolist() == [1, -1, 0, 0]
    assert mapped("to_b1(x)", "b1", np.array([0.0, -0.0, np.nan, 0.1])).tolist() == [False, False, True, True]


# ---- arithmetic -------------------------------------------------------------------------------------

X = np.array([0.5, -0.5, 1.5, 2.5, -2.5, 7.0, np.inf, -np.inf, np.nan, 0.0])


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("word", ["floor", "ceil", "trunc", "rint", "sqrt", "fabs"])
def test_rounding_words(word, kind):
    x = X.astype(NUMPY[kind])
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(mapped(f"{word}_(x)", kind, x), getattr(np, word)(x))


@pytest.mark.parametrize("kind", FLOATS)
def test_copysign_and_fma(kind):
    x, y = X.astype(NUMPY[kind]), X[::-1].astype(NUMPY[kind])
    np.testing.assert_array_equal(mapped("copysign_(x, y)", kind, x, y), np.copysign(x, y))
    tiny = np.full(4, 1 + np.finfo(NUMPY[kind]).eps, NUMPY[kind])
    exact = np.finfo(NUMPY[kind]).eps ** 2
    assert (mapped("fma_(x, x, -(x + x - y))", kind, tiny, np.ones_like(tiny)) == exact).all()


@pytest.mark.parametrize("kind", FLOATS + INTS)
@pytest.mark.parametrize("word,reference", [("fmax", np.maximum), ("fmin", np.minimum)])
def test_extremes(word, reference, kind):
    with np.errstate(invalid="ignore"):
        x, y = (np.nan_to_num(X) if kind[0] in "iu" else X), X[::-1]
        y = np.nan_to_num(y) if kind[0] in "iu" else y
        x, y = np.clip(x, 0, 100) if kind[0] == "u" else x, np.clip(y, 0, 100) if kind[0] == "u" else y
        x, y = (np.clip(v, -100, 100).astype(NUMPY[kind]) for v in (x, y))
    np.testing.assert_array_equal(mapped(f"{word}(x, y)", kind, x, y), reference(x, y))


@pytest.mark.parametrize("where", [None, 0, 7, 700, 1000])
@pytest.mark.parametrize("kind", FLOATS)
def test_reductions_keep_nan_wherever_it_stands(kind, where):
    a = np.random.default_rng(0).standard_normal(1001).astype(NUMPY[kind])
    if where is not None:
        a[where] = np.nan
    low = f"np.{NUMPY[kind].__name__}(-np.inf)"
    np.testing.assert_equal(reduced(f"fmax(a, ld_{kind}(p, i, 0))", low, kind, a), a.max())
    np.testing.assert_equal(reduced(f"fmin(a, ld_{kind}(p, i, 0))", f"-{low}", kind, a), a.min())


@pytest.mark.parametrize("kind", FLOATS + ("i32", "i64"))
def test_sums_and_products(kind):
    a = np.random.default_rng(0).integers(1, 3, 30).astype(NUMPY[kind])
    zero = f"np.{NUMPY[kind].__name__}"
    assert reduced(f"radd(a, ld_{kind}(p, i, 0))", f"{zero}(0)", kind, a) == a.sum(dtype=a.dtype)
    assert reduced(f"rmul(a, ld_{kind}(p, i, 0))", f"{zero}(1)", kind, a) == a.prod(dtype=a.dtype)


@pytest.mark.parametrize("kind", INTS)
def test_integer_division_is_pythons_and_never_traps(kind):
    dtype, info = NUMPY[kind], np.iinfo(NUMPY[kind])
    values = [v for v in (info.min, info.min + 1, -7, -1, 0, 1, 2, 7, info.max) if info.min <= v <= info.max]
    x, y = (np.array(v, dtype) for v in zip(*[(a, b) for a in values for b in values]))
    quotient = [0 if b == 0 else (info.min if (a, b) == (info.min, -1) else a // b)
                for a, b in zip(x.tolist(), y.tolist())]
    rest = [0 if b == 0 else a % b for a, b in zip(x.tolist(), y.tolist())]
    assert mapped("ifloordiv(x, y)", kind, x, y).tolist() == quotient
    assert mapped("imod(x, y)", kind, x, y).tolist() == rest


def test_select_bits_and_words():
    x = np.array([1.0, -2.5, 0.0], np.float32)
    assert mapped("select(x > np.float32(0), x, -x)", "f32", x).tolist() == [1.0, 2.5, 0.0]
    assert (mapped("bits_f32_i32(x)", "i32", x) == x.view(np.int32)).all()
    assert (mapped("bits_i64_f64(bits_f64_i64(x))", "f64", X) == X)[:8].all()
    u = np.array([1, 0x80000001, 0xDEADBEEF], np.uint32)
    assert mapped("rotl_u32(x, 13)", "u32", u).tolist() == [((v << 13) | (v >> 19)) & 0xFFFFFFFF for v in u.tolist()]
    assert mapped("mulhi_u32(x, np.uint32(0xD2511F53))", "u32", u).tolist() == [v * 0xD2511F53 >> 32 for v in u.tolist()]


def test_stack_memory_in_a_loop():
    text = """
def kernel(B, S, lo, hi):
    out = buf(B, 0)
    for i in range(lo, hi):
        t = stack_f64(8)
        for k in range(8):
            st_f64(t, k, to_f64(i + k), 9)
        prefetch(advance(out, 64))
        s = 0.0
        for k in range(8):
            s = radd(s, ld_f64(t, k, 9))
        st_f64(out, i, s, 0)
    return 0
"""
    out = np.zeros(100_000)
    run(text, out)
    assert (out == 8 * np.arange(100_000) + 28).all()


def test_sizes_and_checks():
    text = "def kernel(B, S, lo, hi):\n    if size(S, 1) != S[1] or hi > size(S, 0):\n        return 3\n    return 0\n"
    sizes = (ctypes.c_int64 * 2)(10, 20)
    call = KERNEL(compile_kernels([text])[0])
    assert call(None, sizes, 0, 10) == 0 and call(None, sizes, 0, 11) == 3


# ---- the code LLVM makes ----------------------------------------------------------------------------

def many_inputs(count):
    lines = ["def kernel(B, S, lo, hi):", *(f"    p{k} = buf(B, {k})" for k in range(count + 1)),
             "    for i in range(lo, hi):", "        v = ld_f32(p0, i, 0)"]
    lines += [f"        v = v + ld_f32(p{k}, i, {k})" for k in range(1, count)]
    return "\n".join([*lines, f"        st_f32(p{count}, i, v, {count})", "    return 0"]) + "\n"


def test_twelve_inputs_vectorise_without_alias_checks():
    from graphflow.codegen.backend import optimised_ir
    text = optimised_ir(many_inputs(12))
    assert "x float>" in text and "memcheck" not in text


@pytest.mark.parametrize("word,start", [("radd", "0"), ("rmul", "1"), ("fmax", "-np.inf"), ("fmin", "np.inf")])
def test_reductions_vectorise(word, start):
    from graphflow.codegen.backend import optimised_ir
    text = (f"def kernel(B, S, lo, hi):\n    p = buf(B, 0)\n    a = np.float32({start})\n    for i in range(lo, hi):\n"
            f"        a = {word}(a, ld_f32(p, i, 0))\n    st_f32(buf(B, 1), 0, a, 1)\n    return 0\n")
    assert "x float>" in optimised_ir(text)


def test_objects_export_one_symbol_and_call_no_helper():
    from graphflow.codegen.backend import optimised_ir
    text = optimised_ir(many_inputs(2))
    assert [line for line in text.splitlines() if line.startswith("define")][0].count("@kernel(") == 1
    assert "numba_" not in text and "NRT_" not in text and "Py" not in text
