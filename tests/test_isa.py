"""Kernels made for lesser CPUs than this one: AVX2 without AVX-512, and what every CPU of this kind has."""
from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest
import test_vecmath as vecmath

import graphflow as tf
from graphflow.codegen import backend, blocks, target
from graphflow.codegen import compile as native
from graphflow.codegen import vecmath as vm
from graphflow.flags import flags


def has(isa: str) -> bool:
    try:
        with flags.override(isa=isa):
            return bool(target.cpu())
    except ValueError:
        return False


LIMITS = [isa for isa in ("avx2", "generic") if has(isa)]
X86 = target.llvm().get_process_triple().startswith("x86_64")


@pytest.fixture(params=LIMITS)
def isa(request):
    with flags.override(isa=request.param):
        yield request.param


# ---- the flag itself

SAXPY = """# isa
def kernel(B, S, lo, hi):
    a = buf(B, 0)
    b = buf(B, 1)
    for i in range(lo, hi):
        st_f32(b, i, fma_(ld_f32(a, i, 0), ld_f32(a, i, 0), ld_f32(a, i, 0)), 1)
    return 0
"""


@pytest.mark.skipif(not X86, reason="names of x86 registers")
def test_code_holds_only_what_the_limit_allows(isa):
    text = backend.assembly(SAXPY)
    assert "zmm" not in text
    assert ("ymm" in text and "vfmadd" in text) == (isa == "avx2") and ("xmm" in text or "ymm" in text)


def test_object_code_and_tiles_are_kept_apart():
    keys, addresses, shapes = {}, {}, {}
    for isa in ["native", *LIMITS]:
        with flags.override(isa=isa):
            keys[isa], addresses[isa], shapes[isa] = native.object_key(SAXPY), native.compile_kernels([SAXPY])[0], blocks.shape("f32")
    assert len(set(keys.values())) == len(set(addresses.values())) == len(keys)
    if X86:
        assert shapes["generic"].lanes == 4 and shapes.get("avx2", shapes["generic"]).lanes in (4, 8)
    with flags.override(isa="native"):
        assert native.compile_kernels([SAXPY])[0] == addresses["native"]


def test_unknown_names_are_refused():
    with flags.override(isa="mmx"), pytest.raises(ValueError, match="native, avx2 or generic, got 'mmx'"):
        target.features()


@pytest.mark.parametrize("name", ["generic"])
def test_the_environment_limits_a_process(name):
    text = ("import graphflow as tf; from graphflow.codegen import target; "
            "print(target.features() or 'none', tf.Session().run(tf.reduce_sum(tf.ones([1000]) * 2.0)))")
    environment = {**os.environ, "GRAPHFLOW_ISA": name}
    out = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert out.stdout.split() == ["none", "2000.0"]


# ---- vector math keeps its bounds

_table: dict = {}


def run(name, *xs, fastmath=False):
    """As test_vecmath.run, through the package's own compiler: all functions at once, since it may use helpers."""
    if flags.isa not in _table:
        sources = []
        for n in vecmath.ALL:
            t, count = n[-3:], 1 if vm.FUNCTIONS[n[:-4]][1] == 1 else 2
            loads = ", ".join(f"ld_{t}(buf(B, {k}), i, {k})" for k in range(count))
            sources.append(f"# {n}\ndef kernel(B, S, lo, hi):\n    for i in range(lo, hi):\n"
                           f"        st_{t}(buf(B, {count}), i, {n}({loads}), {count})\n    return 0\n")
        _table[flags.isa] = dict(zip(vecmath.ALL, native.compile_kernels(sources)))
    xs = [np.ascontiguousarray(x, vecmath.DTYPE[name[-3:]]) for x in np.broadcast_arrays(*xs)]
    out = np.empty_like(xs[0])
    table = (ctypes.c_void_p * (len(xs) + 1))(*[x.ctypes.data for x in (*xs, out)])
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    assert call(_table[flags.isa][name])(ctypes.addressof(table), None, 0, out.size) == 0
    return out


@pytest.mark.parametrize("name", vecmath.ALL)
def test_vector_math_within_bound(isa, name, monkeypatch):
    monkeypatch.setattr(vecmath, "run", run)
    vecmath.test_error_within_bound(name)


@pytest.mark.parametrize("name", [n for n in vecmath.ALL if n[:-4] in vecmath.NUMPY])
def test_special_values(isa, name, monkeypatch):
    monkeypatch.setattr(vecmath, "run", run)
    vecmath.test_special_values(name, False)


# ---- whole programs

R = np.random.RandomState(0)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def convolution(x, w):
    """3x3, stride 1, SAME, NHWC."""
    p = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(p[:, i:i + x.shape[1], j:j + x.shape[2]] @ w[i, j] for i in range(3) for j in range(3))


A, B = R.randn(37, 131).astype(np.float32), R.randn(131, 45).astype(np.float32)
IMAGE, FILTER = R.randn(2, 9, 11, 7).astype(np.float32), R.randn(3, 3, 7, 19).astype(np.float32)
LONG = R.randn(100_003).astype(np.float32)
PROGRAMS = {
    "matmul": (lambda a, b: tf.nn.relu(tf.matmul(a, b)), lambda a, b: np.maximum(a @ b, 0), (A, B), 1e-4),
    "matmul_f64": (tf.matmul, np.matmul, (A.astype(np.float64), B.astype(np.float64)), 1e-12),
    "matmul_t": (lambda a, b: tf.matmul(a, b, transpose_a=True, transpose_b=True), lambda a, b: a.T @ b.T,
                 (np.ascontiguousarray(A.T), np.ascontiguousarray(B.T)), 1e-4),
    "batched": (tf.matmul, np.matmul, (R.randn(3, 33, 40).astype(np.float32), R.randn(3, 40, 29).astype(np.float32)), 1e-4),
    "convolution": (lambda x, w: tf.nn.conv2d(x, w, [1, 1, 1, 1], "SAME"), convolution, (IMAGE, FILTER), 1e-4),
    "softmax": (tf.nn.softmax, softmax, (A,), 1e-6),
    "sum": (tf.reduce_sum, lambda x: x.astype(np.float64).sum(), (LONG,), 1e-4),
    "columns": (lambda x: tf.reduce_mean(x, 0), lambda x: x.mean(0), (A,), 1e-5),
    "max": (lambda x: tf.reduce_max(x, 1), lambda x: x.max(1), (A,), 0),
    "pool": (lambda x: tf.nn.max_pool(x, [1, 3, 3, 1], [1, 1, 1, 1], "VALID"),
             lambda x: np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2)).max((-1, -2)), (IMAGE,), 0),
    "half": (lambda x: tf.cast(tf.cast(x, tf.float16) * 3, tf.float32), lambda x: (x.astype(np.float16) * np.float16(3)).astype(np.float32),
             (LONG,), 2e-3),
    "integers": (lambda x: x // 7 + x % 5 - tf.maximum(x, 3), lambda x: x // 7 + x % 5 - np.maximum(x, 3),
                 (R.randint(-10**6, 10**6, 5000).astype(np.int32),), 0),
    "chain": (lambda x: tf.tanh(x) * tf.sigmoid(x) + tf.exp(-x * x) - tf.sqrt(tf.abs(x)),
              lambda x: np.tanh(x) / (1 + np.exp(-x)) + np.exp(-x * x) - np.sqrt(np.abs(x)), (LONG,), 1e-5),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_equal_numpy(isa, name):
    make, reference, arrays, tolerance = PROGRAMS[name]
    feeds = [tf.placeholder(a.dtype, a.shape) for a in arrays]
    with tf.Session() as sess:
        got = sess.run(make(*feeds), dict(zip(feeds, arrays)))
    np.testing.assert_allclose(got, reference(*arrays), rtol=tolerance, atol=tolerance)


def test_gradients_of_a_convolution_equal_native(isa):
    x, w = tf.placeholder(tf.float32, IMAGE.shape), tf.placeholder(tf.float32, FILTER.shape)
    made = tf.gradients(tf.reduce_sum(tf.square(tf.nn.conv2d(x, w, [1, 1, 1, 1], "SAME"))), [x, w])
    with tf.Session() as sess:
        limited = sess.run(made, {x: IMAGE, w: FILTER})
        with flags.override(isa="native"):
            whole = sess.run(made, {x: IMAGE, w: FILTER})
    for a, b in zip(limited, whole):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def test_random_bits_are_the_same_everywhere(isa):
    t = tf.random_uniform([1000], seed=3)
    limited = tf.Session().run(t)
    with flags.override(isa="native"):
        np.testing.assert_array_equal(limited, tf.Session().run(t))
