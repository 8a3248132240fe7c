"""Two dozen kernels of a GPU, looked at without one: their texts, what they cost in the emulator, and what NVIDIA's compiler makes of them.

Texts stand under tests/golden/cuda, with the hash of the PTX that a version of LLVM makes; `python tests/test_cuda_static.py --update`
writes them again and prints what has changed.  Registers and spills need `ptxas` (CUDA's, or nvJitLink of the extra `cuda-test`), machine
code needs `nvdisasm` of that extra, too; without them those tests are skipped.
"""
from __future__ import annotations

import ctypes
import difflib
import functools
import hashlib
import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys

import llvmlite.binding as llvm
import numpy as np
import pytest

import graphflow as tf
from graphflow.codegen.cuda import texts
from graphflow.flags import flags
from graphflow.testing import emulated_gpu

FOLDER = pathlib.Path(__file__).parent / "golden" / "cuda"
LLVM = ".".join(map(str, llvm.llvm_version_info))
KERNELS: dict[str, tuple] = {}


def kernel(registers=64, points=False, wide=True, coalesced=True):
    """Registers a graph: a function that returns (fetches, feeds).

    registers: of a thread, at most.  points: it computes elements one by one, 4 or more a thread: at most 50 instructions each.  wide:
    all memory is read and written 16 bytes at a time.  coalesced: no access moves more than it must.
    """
    def add(fn):
        KERNELS[fn.__name__] = fn, registers, points, wide, coalesced
        return fn
    return add


def fed(*shape, dtype=tf.float32):
    t = tf.placeholder(dtype, shape)
    rng = np.random.default_rng(0)
    a = rng.integers(0, 50, shape) if t.dtype.is_integer else rng.standard_normal(shape)
    return t, a.astype(np.float32 if dtype is tf.bfloat16 else t.dtype.as_numpy_dtype)


def pointwise(name, make, dtype=tf.float32, **more):
    def build():
        x, a = fed(64, 1024, dtype=dtype)
        return make(x), {x: a}
    build.__name__ = name
    kernel(points=True, **more)(build)


pointwise("arithmetic", lambda x: (x * 1.5 + 0.25) * x - tf.maximum(x, 0.1))
pointwise("exponential", lambda x: tf.exp(-tf.square(x)) * 2.0)
pointwise("hyperbolic", lambda x: tf.tanh(x) + 1.0)
pointwise("error_function", lambda x: 0.5 * x * (1.0 + tf.erf(x * 0.70710678)))
pointwise("logarithm", lambda x: tf.log(tf.square(x) + 1.0))
pointwise("logistic", lambda x: x * tf.sigmoid(x))
pointwise("quotient_and_root", lambda x: x / tf.sqrt(tf.square(x) + 0.5))
pointwise("choice", lambda x: tf.where(x > 0.0, x * 2.0, tf.zeros_like(x) - 1.0))
pointwise("brain_floats", lambda x: tf.cast(tf.exp(tf.cast(x, tf.float32)) + 1.0, tf.bfloat16), tf.bfloat16)
pointwise("chain_of_brain_floats", lambda x: tf.nn.relu(x * x + x) * x, tf.bfloat16)


@kernel(points=True)
def bias_and_relu():
    x, a = fed(64, 1024)
    b, c = fed(1024)
    return tf.nn.relu(x + b), {x: a, b: c}


@kernel(points=True)
def dropout():
    x, a = fed(64, 1024)
    return tf.nn.dropout(x, keep_prob=0.5, seed=2), {x: a}


@kernel(points=True)
def adam():
    w, g = tf.Variable(np.zeros((64, 1024), np.float32)), fed(64, 1024)
    return tf.train.AdamOptimizer(0.01).apply_gradients([(g[0], w)]), dict([g])


def rows(name, make, n, m, **more):
    def build():
        x, a = fed(n, m)
        return make(x), {x: a}
    build.__name__ = name
    kernel(**more)(build)


def normed(x):
    mean, variance = tf.nn.moments(x, [1], keep_dims=True)
    return (x - mean) * tf.rsqrt(variance + 1e-6)


rows("softmax_1024", tf.nn.softmax, 64, 1024)
rows("softmax_4096", tf.nn.softmax, 16, 4096)
rows("softmax_32768", tf.nn.softmax, 2, 32768)
rows("layer_norm", normed, 64, 1024)
rows("sum_of_rows", lambda x: tf.reduce_sum(x, 1), 64, 4096)
rows("largest_of_rows", lambda x: tf.argmax(x, 1), 64, 1024)
rows("sum_of_columns", lambda x: tf.reduce_sum(x, 0), 1024, 256, wide=False)
rows("sum_of_everything", lambda x: tf.reduce_sum(tf.square(x)), 64, 4096)
rows("transposed", tf.transpose, 256, 256, wide=False)
rows("running_sum", lambda x: tf.cumsum(x, 1), 16, 4096, wide=False)


@kernel()
def gathered():
    x, a = fed(50, 256)
    i, b = fed(100, dtype=tf.int32)
    return tf.gather(x, i) * 2.0, {x: a, i: b}


@kernel(wide=False)
def scattered():
    x, a = fed(100, 64)
    i, b = fed(100, dtype=tf.int32)
    return tf.unsorted_segment_sum(x, i, 50), {x: a, i: b}


@kernel(wide=False)
def pooled():
    x, a = fed(2, 32, 32, 16)
    return tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME"), {x: a}


@kernel(wide=False, coalesced=False)
def ten_of_many():
    x, a = fed(2, 2000)
    return list(tf.nn.top_k(x, 10)), {x: a}


@kernel(wide=False)
def in_order():
    x, a = fed(1, 4096, dtype=tf.float64)
    return tf.argsort(x), {x: a}


@kernel(wide=False)
def truncated_normal():
    return tf.truncated_normal([64, 1024], seed=1), {}


def attended(dtype):
    (q, a), (k, b), (v, c) = (fed(2, 64, 64, dtype=dtype) for _ in range(3))
    return tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * 0.125), v), {q: a, k: b, v: c}


@kernel(registers=128)
def attention():
    return attended(tf.float32)


@kernel(registers=128, wide=False)
def attention_of_brain_floats():
    return attended(tf.bfloat16)


def build(name):
    """(fetches, feeds) of a kernel, in the default graph."""
    fetches, feeds = KERNELS[name][0]()
    return fetches, feeds


@functools.cache
def sources(name: str) -> tuple[str, ...]:
    """The device texts of a kernel's launches."""
    with tf.Graph().as_default(), emulated_gpu(), flags.override(early=0):
        fetches, feeds = build(name)
        found = [k.source for k in tf.explain(fetches, feeds).kernels]
    assert found and all(s and "#: p" in s for s in found), f"{name}: not all of it runs on the GPU"
    return tuple(dict.fromkeys(found))


def text(name: str) -> str:
    return "\n".join(sources(name))


@functools.cache
def ptx(name: str) -> tuple[str, ...]:
    return tuple(texts.ptx_of(s, (9, 0)) for s in sources(name))


def digest(name: str) -> str:
    return hashlib.sha256("\n".join(ptx(name)).encode()).hexdigest()[:16]


# ---------------------------------------------------------------- as kept


@pytest.mark.parametrize("name", KERNELS)
def test_text_is_as_kept(name):
    kept = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert text(name) == kept, f"the kernels of {name} changed; if that is meant: python tests/test_cuda_static.py --update"


def test_nothing_else_is_kept():
    assert {p.stem for p in FOLDER.glob("*.txt")} == set(KERNELS)


def test_ptx_is_as_kept():
    """The same in every process and on every machine, for one version of LLVM."""
    kept = json.loads((FOLDER / "ptx.json").read_text(encoding="utf-8"))
    if LLVM not in kept:
        pytest.skip(f"nothing kept for LLVM {LLVM}")
    found = {name: digest(name) for name in KERNELS}
    assert found == kept[LLVM], "PTX changed; if that is meant: python tests/test_cuda_static.py --update"


# ---------------------------------------------------------------- in the emulator


@pytest.mark.parametrize("name", KERNELS)
def test_memory_is_moved_once_and_without_conflicts(name):
    _, _, _, wide, coalesced = KERNELS[name]
    with tf.Graph().as_default(), emulated_gpu() as gpu, flags.override(early=0, interpret=0):
        fetches, feeds = build(name)
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            before = gpu.counters.copy()
            sess.run(fetches, feeds)
            seen = gpu.counters - before
    assert seen.launches and not seen.bank_conflicts and not seen.local_accesses
    assert seen.coalesced == coalesced, seen
    if wide:
        code = ptx(name)[0]  # what follows adds up what the blocks have found
        assert re.search(r"(?:ld|st)\.global\S*\.(?:v4\.b32|v2\.b64)", code), code
        narrow = re.findall(r"(?:ld|st)\.global(?:\.nc)?\.(?:v2\.)?[bfsu](?:8|16|32)\s", code)
        assert len(narrow) <= 4, narrow  # a result a row, an index, numbers that all threads read


# ---------------------------------------------------------------- NVIDIA's compiler


def assembler():
    """A function PTX -> (cubin, log), or None."""
    path = shutil.which("ptxas")
    if path:
        return functools.partial(_by_ptxas, path)
    there = _extra("lib/libnvJitLink.so.13", "bin/nvJitLink_130_0.dll")
    return functools.partial(_by_nvjitlink, there) if there else None


def _extra(*names: str) -> str | None:
    """A file of NVIDIA's wheels."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        for name in names:
            found = sorted(pathlib.Path(folder).glob(f"*/{name}"))
            if found:
                return str(found[0])
    return None


def _by_ptxas(path: str, source: str, folder: pathlib.Path) -> tuple[bytes, str]:
    (folder / "k.ptx").write_text(source)
    made = subprocess.run([path, "-arch=sm_90", "-v", str(folder / "k.ptx"), "-o", str(folder / "k.cubin")], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return (folder / "k.cubin").read_bytes(), made.stderr


def _by_nvjitlink(path: str, source: str, folder: pathlib.Path) -> tuple[bytes, str]:
    library, handle, size = ctypes.CDLL(path), ctypes.c_void_p(), ctypes.c_size_t()

    def call(name: str, *args) -> int:
        return getattr(library, name)(*args)

    options = [b"-arch=sm_90", b"-verbose", b"-Xptxas=-v"]
    assert call("nvJitLinkCreate", ctypes.byref(handle), len(options), (ctypes.c_char_p * len(options))(*options)) == 0
    data = source.encode() + b"\0"
    failed = call("nvJitLinkAddData", handle, 2, data, len(data), b"kernel") or call("nvJitLinkComplete", handle)
    call("nvJitLinkGetErrorLogSize" if failed else "nvJitLinkGetInfoLogSize", handle, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value + 1)
    call("nvJitLinkGetErrorLog" if failed else "nvJitLinkGetInfoLog", handle, log)
    assert not failed, log.value.decode()
    call("nvJitLinkGetLinkedCubinSize", handle, ctypes.byref(size))
    cubin = ctypes.create_string_buffer(size.value)
    call("nvJitLinkGetLinkedCubin", handle, cubin)
    call("nvJitLinkDestroy", ctypes.byref(handle))
    return cubin.raw, log.value.decode()


def disassembler() -> str | None:
    return shutil.which("nvdisasm") or _extra("bin/nvdisasm", "bin/nvdisasm.exe")


@pytest.mark.parametrize("name", KERNELS)
def test_registers_without_spills(name, tmp_path):
    assemble = assembler()
    if assemble is None:
        pytest.skip("neither ptxas on the PATH nor nvJitLink: pip install 'graphflow[cuda-test]'")
    for source in ptx(name):
        _, log = assemble(source, tmp_path)
        registers = [int(n) for n in re.findall(r"Used (\d+) registers", log)]
        assert registers and max(registers) <= KERNELS[name][1], log
        assert re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log) in ([("0", "0")], []), log
        assert "bytes stack frame" not in log or "0 bytes stack frame" in log, log


@pytest.mark.parametrize("name", KERNELS)
def test_machine_code(name, tmp_path):
    """Accesses of 128 bits, and few instructions an element, so that memory is what a kernel waits for."""
    assemble, path = assembler(), disassembler()
    if assemble is None or path is None:
        pytest.skip("no nvdisasm, or nothing that assembles: pip install 'graphflow[cuda-test]'")
    _, _, points, wide, _ = KERNELS[name]
    for source in ptx(name):
        cubin, _ = assemble(source, tmp_path)
        (tmp_path / "k.cubin").write_bytes(cubin)
        shown = subprocess.run([path, "-c", str(tmp_path / "k.cubin")], capture_output=True, text=True, check=True).stdout
        code = [m[1] for m in re.finditer(r"^\s*/\*[0-9a-f]{4,}\*/\s+(.*?);", shown, re.M)]
        code = [c for c in code if not re.match(r"(?:NOP|BRA 0x|BRA `\(\.L_x_\d+\)$)", c)]
        if wide and len(ptx(name)) == 1:
            assert any("LDG.E.128" in c or "STG.E.128" in c for c in code), shown
        assert not any(re.match(r"(?:@!?U?P\d+ )?(?:LDL|STL)", c) for c in code)
        if points and len(ptx(name)) == 1:
            assert len(code) <= 50 * 4, f"{len(code)} instructions for 4 elements\n{shown}"


def update() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.txt"):
        if old.stem not in KERNELS:
            old.unlink()
            print(f"removed {old.name}")
    for name in KERNELS:
        path, new = FOLDER / f"{name}.txt", text(name)
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old != new:
            sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"{name} before", f"{name} now", n=2))
            path.write_text(new, encoding="utf-8")
    place = FOLDER / "ptx.json"
    kept = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    found = {name: digest(name) for name in KERNELS}
    if kept.get(LLVM) != found:
        print("PTX changed:", ", ".join(n for n in found if kept.get(LLVM, {}).get(n) != found[n]))
        place.write_text(json.dumps({LLVM: found}, indent=1) + "\n", encoding="utf-8")  # of another LLVM nothing is known any more


if __name__ == "__main__" and "--update" in sys.argv:
    update()
