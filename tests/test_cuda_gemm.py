"""Generated products of a GPU: run on the PTX emulator against the reference interpreter, with small integers so that sums are exact.

The emulator's sanitizer refuses accesses out of bounds, races and unwritten results in every one of these runs.
"""
from __future__ import annotations

import glob
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest

import graphflow as tf
from graphflow import types
from graphflow.codegen import contract, ir, lower, simplify
from graphflow.codegen.cuda import gemm, ptx
from graphflow.codegen.ir import Buffer
from graphflow.flags import flags
from graphflow.testing import ptx as emulator

pytestmark = pytest.mark.filterwarnings("ignore:gradients. no path")


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        yield


def ph(*shape, dtype=tf.float32):
    return tf.placeholder(dtype, shape)


# ---------------------------------------------------------------- running


@dataclass
class Case:
    """A contraction, what follows it, and its launches."""

    op: object
    stored: dict
    launches: list
    results: list
    env: dict = field(default_factory=dict)
    alias: dict = field(default_factory=dict)

    def size(self, n):
        return types.evaluate(n, self.env)

    def shape(self, b):
        return tuple(map(self.size, b.sizes))


def contraction(t):
    op = t.op
    while op.opdef.family != "contraction":
        op = op.inputs[0].op
    return op


def inputs_of(op) -> dict:
    stored: dict = {}

    def leaf(t, index):
        if contract._looked_through(t):
            return None
        return ir.load(stored.setdefault(t, Buffer(t.dtype, t.sizes, "in", t.op.name)), index)
    assert contract.product(op, leaf) is not None
    return stored


def placeholders(follow, product) -> list:
    """What is read besides the product."""
    found, todo = {}, list(follow)
    while todo:
        t = todo.pop()
        if t is not product:
            found.update({t: None} if t.op.type == "Placeholder" else {})
            todo += t.op.inputs
    return list(found)


def made(t, tile=None, splits=1, follow=(), keep=True, alias=None, wide=False, **env) -> Case:
    """The launches of the contraction behind `t`; `follow`: tensors computed from it elementwise; `keep`: whether it is stored itself."""
    op = contraction(t)
    stored = inputs_of(op)
    y = op.outputs[0]
    inputs = dict(stored)
    then = result = None
    if keep:
        stored[y] = Buffer(y.dtype, y.sizes, "out", "y")
    if follow:
        result = stored.get(y) or Buffer(y.dtype.compute, y.sizes, "part", "product")
        extra = {x: Buffer(x.dtype, x.sizes, "in", x.op.name) for x in placeholders(follow, y)}
        stored.update(extra)
        inputs.update(extra)
        stored.update({f: Buffer(f.dtype, f.sizes, "out", f.op.name) for f in follow})
        then = simplify.linear(lower.lower("then", [f.op for f in follow], follow, len(y.sizes), {**stored, y: result}))
        assert gemm.accepts(op, then, result)
    shared = {stored[a]: stored[b] for a, b in (alias or {}).items()}
    if tile is None:
        launches = gemm.kernels("k", op, stored, then, result, shared, wide=wide)
    else:
        p = contract.product(op, lambda t, index: ir.load(stored[t], index) if t in inputs else None)
        launches = gemm._made("k", p, tile, splits, stored.get(y), then, result, shared, wide)
    return Case(op, inputs, launches, [(x, stored[x]) for x in ([y] if keep else []) + list(follow)], env, shared)


def checked(case: Case, seed: int = 0) -> list[emulator.Counters]:
    """Every result equals the reference's; the counters of each launch."""
    rng = np.random.default_rng(seed)
    memory = emulator.Memory(1 << 24)
    feeds, address = {}, {}
    for t, b in case.stored.items():
        a = rng.integers(-3, 4, case.shape(b))
        feeds[t] = types.bf16_encode(a.astype(np.float32)) if b.dtype is types.bfloat16 else a.astype(b.dtype.np)
        address[b] = memory.store(feeds[t])
    counters = []
    for launch in case.launches:
        for b in launch.buffers:
            if b not in address:
                address[b] = memory.allocate(max(int(np.prod(case.shape(b))) * b.dtype.size, 1))
        grid = tuple(map(case.size, launch.grid))
        values = [*(address[b] for b in launch.buffers), *map(case.size, launch.sizes)]
        counters.append(emulator.launch(ptx.compile_ptx(launch.source), memory, grid, launch.threads, values))
    expected = reference(case, feeds)
    for (_, b), want in zip(case.results, expected):
        at, shape = address[case.alias.get(b, b)], case.shape(b)
        assert not memory.never_written(at, int(np.prod(shape)) * b.dtype.size).size
        got = memory.read(at, b.dtype.np, shape)
        if b.dtype is types.bfloat16:
            got, want = types.bf16_decode(got), types.bf16_decode(want) if want.dtype == np.uint16 else want
        np.testing.assert_array_equal(got, want)
    return counters


def reference(case: Case, feeds: dict) -> list[np.ndarray]:
    """By the interpreter; placeholders of which only the shape is asked are zeros."""
    feeds, todo, seen = dict(feeds), [t.op for t, _ in case.results], set()
    while todo:
        op = todo.pop()
        if op in seen:
            continue
        seen.add(op)
        if op.type == "Placeholder" and op.outputs[0] not in feeds:
            feeds[op.outputs[0]] = np.zeros(tuple(map(case.size, op.outputs[0].sizes)), op.outputs[0].dtype.np)
        todo += [t.op for t in op.inputs]
    with flags.override(interpret=1), tf.Session() as s:
        return [np.asarray(v) for v in s.run([t for t, _ in case.results], feeds)]


def clean(case: Case) -> None:
    """Right values, and no bank of shared memory is asked twice at once."""
    assert checked(case)[0].bank_conflicts == 0


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
def test_all_transposes(ta, tb):
    m, k, n = (36, 40, 44) if ta == tb else (33, 19, 35)  # whole accesses of 16 bytes, and single elements
    clean(made(tf.matmul(ph(*((k, m) if ta else (m, k))), ph(*((n, k) if tb else (k, n))), ta, tb)))


@pytest.mark.parametrize("tile", [gemm.TILES[i] for i in (0, 7, 8)], ids=str)
def test_tiles_with_ragged_edges(tile):
    clean(made(tf.matmul(ph(tile.rows // 2 + 3, 19), ph(19, tile.columns // 2 + 5)), tile))


def test_batches_and_broadcast_operands():
    clean(made(tf.matmul(ph(2, 3, 20, 17), ph(1, 3, 17, 33))))
    clean(made(tf.einsum("bqhd,bkhd->bhqk", ph(2, 10, 4, 8), ph(2, 12, 4, 8))))


@pytest.mark.parametrize("dtype", [tf.float64, tf.int32, tf.int64, tf.float16, tf.bfloat16], ids=str)
def test_dtypes(dtype):
    clean(made(tf.matmul(ph(35, 70, dtype=dtype), ph(72, 35, dtype=dtype), True, True)))


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
def test_tensor_cores_in_all_transposes(ta, tb):
    case = made(tf.matmul(*(ph(*(s[::-1] if t else s), dtype=tf.bfloat16) for s, t in (((72, 40), ta), ((40, 64), tb))), ta, tb))
    assert "mma.sync" in ptx.compile_ptx(case.launches[0].source)
    clean(case)


@pytest.mark.parametrize("tile", [gemm.TENSOR_TILES[i] for i in (0, 4, 6)], ids=str)
def test_tiles_of_tensor_cores_with_ragged_edges(tile):
    checked(made(tf.matmul(ph(tile.rows // 2 + 3, 37, dtype=tf.float16), ph(37, 75, dtype=tf.float16)), tile))


def test_a_convolution_on_tensor_cores_and_what_follows():
    y = tf.nn.conv2d(ph(2, 9, 8, 16, dtype=tf.bfloat16), ph(3, 3, 16, 32, dtype=tf.bfloat16), (1, 1, 1, 1), "SAME")
    z = tf.nn.relu(y + ph(32, dtype=tf.bfloat16)) + ph(2, 9, 8, 32, dtype=tf.bfloat16)
    case = made(y, None, 1, [z], False)
    assert "mma_bf16" in case.launches[0].source
    with np.errstate(all="ignore"):
        clean(case)


@pytest.mark.parametrize("ta", [False, True])
def test_float32_rounded_for_tensor_cores_behind_a_flag(ta):
    y = tf.matmul(ph(*((36, 40) if ta else (40, 36))), ph(36, 44), ta)
    assert "mma" not in made(y).launches[0].source
    with flags.override(tf32=1):
        case = made(y)
    assert "mma_tf32" in case.launches[0].source
    clean(case)


def test_narrow_data_are_read_as_they_are():
    case = made(tf.matmul(tf.cast(ph(36, 24, dtype=tf.int8), tf.int32), tf.cast(ph(24, 32, dtype=tf.int8), tf.int32)))
    assert {b.dtype for b in case.stored.values()} == {types.int8}
    clean(case)


CONVOLUTIONS = [  # image (NHWC), filter, strides, padding, dilations
    ((2, 9, 8, 3), (3, 3, 3, 4), (2, 2), "SAME", (1, 1)), ((2, 11, 10, 4), (3, 2, 4, 8), (1, 1), "SAME", (2, 3))]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolutions_and_both_gradients(case):
    xs, ws, strides, padding, dilations = case
    x, w = ph(*xs), ph(*ws)
    y = tf.nn.conv2d(x, w, (1, *strides, 1), padding, dilations=(1, *dilations, 1))
    clean(made(y))
    dx, dw = tf.gradients(y, [x, w], grad_ys=ph(*y.shape.as_list()))
    clean(made(dx))
    clean(made(dw))


def test_other_strides_along_rows_and_columns_without_padding():
    x, w = ph(2, 9, 14, 3), ph(3, 3, 3, 5)
    y = tf.nn.conv2d(x, w, (1, 2, 3, 1), "VALID")
    clean(made(y))
    clean(made(tf.gradients(y, [w], grad_ys=ph(*y.shape.as_list()))[0]))


def test_strided_gradients_multiply_no_zeros():
    x, w = ph(2, 5, 6, 8), ph(1, 1, 8, 8)
    y = tf.nn.conv2d(x, w, (1, 2, 2, 1), "SAME")
    dx = tf.gradients(y, [x], grad_ys=ph(2, 3, 3, 8))[0]
    case = made(dx, None, 1, [tf.nn.relu(dx + ph(8))], False)
    assert len(case.launches) == 5  # a product or zeros for each remainder of (row, column), then what follows
    assert sum("product" in k.source for k in case.launches) == 1
    checked(case)


def test_channels_first():
    clean(made(tf.nn.conv2d(ph(2, 3, 9, 8), ph(3, 3, 3, 4), (1, 1, 1, 1), "SAME", data_format="NCHW")))


def test_depthwise_convolution_as_batches():
    clean(made(tf.nn.depthwise_conv2d(ph(2, 6, 5, 4), ph(3, 3, 4, 2), [1, 1, 1, 1], "SAME"), gemm.TILES[6]))


def test_sums_cut_into_parts():
    case = made(tf.matmul(ph(70, 200), ph(200, 72)), gemm.TILES[3], 5)
    assert len(case.launches) == 2 and case.size(case.launches[0].grid[0]) == 2 * 2 * 5
    clean(case)
    x, w = ph(2, 9, 8, 4), ph(3, 3, 4, 8)
    y = tf.nn.conv2d(x, w, (1, 1, 1, 1), "SAME")
    clean(made(tf.gradients(y, [w], grad_ys=ph(2, 9, 8, 8))[0], gemm.TILES[6], 3))


@pytest.mark.parametrize("k, wide", [(0, False), (48, False), (17, True)])
def test_sizes_known_when_it_runs(k, wide):
    n, inner = types.symbol("n", 128), types.symbol("k", 64)
    case = made(tf.matmul(ph(2, n, inner), ph(2, inner, n)), wide=wide, n=37, k=k)
    clean(case)
    assert case.launches[0].source == made(tf.matmul(ph(2, n, inner), ph(2, inner, n)), wide=wide).launches[0].source


def test_convolution_with_a_batch_known_when_it_runs():
    x, w = ph(types.symbol("n", 64), 9, 8, 4), ph(3, 3, 4, 8)
    y = tf.nn.conv2d(x, w, (1, 1, 1, 1), "SAME")
    for t in (y, tf.gradients(y, [w], grad_ys=ph(*y.op.outputs[0].sizes))[0]):
        clean(made(t, n=3))


# ---------------------------------------------------------------- what follows


@pytest.mark.parametrize("n, splits, keep", [(40, 1, True), (39, 1, False), (40, 2, False)])
def test_bias_activation_residual_and_several_results(n, splits, keep):
    y = tf.matmul(ph(36, 40), ph(40, n))
    z = tf.nn.relu(y + ph(n))
    counters = checked(made(y, gemm.TILES[6], splits, [z, z * ph(36, n) + ph(36, 1)], keep))
    assert len(counters) == splits


def test_a_result_in_the_memory_of_an_operand():
    y, r = tf.matmul(ph(36, 40), ph(40, 32)), ph(36, 32)
    z = y + r
    clean(made(y, None, 1, [z], False, {z: r}))


def test_what_follows_a_convolution():
    y = tf.nn.conv2d(ph(2, 9, 8, 4), ph(3, 3, 4, 8), (1, 1, 1, 1), "SAME")
    clean(made(y, gemm.TILES[6], 1, [tf.nn.relu(y + ph(2, 1, 1, 8)) * ph(8)], False))


@pytest.mark.parametrize("dtype", [tf.bfloat16], ids=str)
def test_what_follows_reads_the_stored_value_rounded(dtype):
    y = tf.matmul(ph(16, 700, dtype=dtype), ph(700, 32, dtype=dtype))
    for splits in (1, 3):
        clean(made(y, gemm.TILES[6], splits, [tf.cast(y, tf.float32)], True))


def test_no_epilogue_where_elements_change_places():
    y = tf.matmul(ph(36, 40), ph(40, 32))
    op, result = contraction(y), Buffer(y.dtype, y.sizes, "part")

    def then(t, depth=2):
        return simplify.linear(lower.lower("then", [t.op], [t], depth, {y: result, t: Buffer(t.dtype, t.sizes, "out")}))
    assert gemm.accepts(op, then(tf.nn.relu(y)), result)
    assert not gemm.accepts(op, then(tf.reverse(y, [1])), result)
    assert not gemm.accepts(op, then(tf.reduce_sum(y, 1), 1), result)
    assert not gemm.accepts(op, then(tf.nn.relu(tf.transpose(y))), result)


def test_aligned_products_move_no_sector_twice():
    case = made(tf.matmul(ph(128, 32), ph(32, 128)), gemm.TILES[0])
    (c,) = checked(case)
    assert c.coalesced and c.bank_conflicts == 0
    assert c.global_load_sectors == 2 * 128 * 32 * 4 // 32  # each element once


# ---------------------------------------------------------------- choices


def chosen(t):
    return gemm.choose(contract.product(contraction(t), gemm._leaf))


def test_tiles_keep_the_processors_busy():
    tile, splits = chosen(tf.matmul(ph(4096, 4096), ph(4096, 4096)))
    assert (tile.rows, tile.columns, splits) == (128, 128, 1)
    x, w = ph(64, 56, 56, 64), ph(3, 3, 64, 64)
    y = tf.nn.conv2d(x, w, (1, 1, 1, 1), "SAME")
    tile, splits = chosen(tf.gradients(y, [w], grad_ys=ph(64, 56, 56, 64))[0])
    blocks = -(-576 // tile.rows) * -(-64 // tile.columns) * splits
    assert splits > 1 and blocks >= gemm.PROCESSORS
    tile, splits = chosen(tf.matmul(ph(16, 4096), ph(4096, 4096)))
    assert tile.rows == 16
    tile, splits = chosen(tf.matmul(ph(4096, 1024), ph(1024, 10)))
    assert tile.columns == 16


def test_vectors_are_left_to_folds():
    assert gemm.engine(tf.matmul(ph(512, 512), ph(512, 512)).op) == "contraction"
    assert gemm.engine(tf.matmul(ph(512, 512), ph(512, 1)).op) is None
    assert gemm.engine(tf.matmul(ph(4, 8), ph(8, 4)).op) is None
    assert gemm.engine(tf.nn.relu(ph(4, 8)).op) is None


# ---------------------------------------------------------------- machine code

ptxas = pytest.mark.skipif(shutil.which("ptxas") is None, reason="needs ptxas of the CUDA toolkit")


def assembled(source: str, folder) -> tuple[int, int]:
    """(registers, bytes of spills) by ptxas; the machine code is in `folder`."""
    (folder / "k.ptx").write_text(ptx.compile_ptx(source))
    command = ["ptxas", "-arch=sm_90", "-v", str(folder / "k.ptx"), "-o", str(folder / "k.cubin")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(re.search(r"Used (\d+) registers", done.stderr)[1]), sum(map(int, re.findall(r"(\d+) bytes spill", done.stderr)))


def main_loop(folder) -> Counter:
    """Instructions of the longest loop of the machine code."""
    tool = shutil.which("nvdisasm") or next(iter(p for d in sys.path for p in glob.glob(f"{d}/nvidia/*/bin/nvdisasm")), None)
    if tool is None:
        pytest.skip("needs nvdisasm (wheel nvidia-cuda-nvdisasm)")
    text = subprocess.run([tool, "-c", str(folder / "k.cubin")], capture_output=True, text=True, check=True).stdout
    code, labels, longest = [], {}, []
    for line in text.splitlines():
        if label := re.match(r"\s*\.(L_x_\d+):", line):
            labels[label[1]] = len(code)
        elif found := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?\w+\s+)?(.*?);", line):
            code.append(found[1])
            back = re.search(r"BRA.*`\(\.(L_x_\d+)\)", found[1])
            if back and back[1] in labels and len(code) - labels[back[1]] > len(longest):
                longest = code[labels[back[1]]:]
    return Counter(c.split()[0] for c in longest)


@ptxas
@pytest.mark.parametrize("sizes, tb", [((1024, 1024, 1024), False), ((1000, 1000, 1000), True)], ids=str)
def test_the_large_tile_is_nearly_all_multiplications(sizes, tb, tmp_path):
    m, k, n = sizes
    case = made(tf.matmul(ph(m, k), ph(*((n, k) if tb else (k, n))), False, tb), gemm.TILES[0])
    registers, spills = assembled(case.launches[0].source, tmp_path)
    assert registers <= 128 and spills == 0
    loop = main_loop(tmp_path)
    assert loop["FFMA"] == 8 * 8 * gemm.TILES[0].depth and loop["FFMA"] > 0.88 * sum(loop.values())
    assert loop["LDS.128"] == 4 * gemm.TILES[0].depth


@ptxas
@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float32], ids=str)
def test_tensor_cores_are_busy(dtype, tmp_path):
    tile = gemm.tensor_tiles(dtype)[1]
    with flags.override(tf32=1):
        case = made(tf.matmul(ph(1024, 1024, dtype=dtype), ph(1024, 1024, dtype=dtype)), tile)
    registers, spills = assembled(case.launches[0].source, tmp_path)
    assert registers <= 128 and spills == 0
    loop = main_loop(tmp_path)
    found = sum(n for name, n in loop.items() if name.startswith("HMMA"))
    assert found == 2 * 4 * 4  # a warp: 64 x 32 by pieces of 16 x 8, two of the sum
    assert loop["LDGSTS.E.BYPASS.128"] == 6 and not any(name.startswith("STS") for name in loop)  # tiles arrive past the registers


@ptxas
@pytest.mark.parametrize("tile", [gemm.TILES[i] for i in (1, 3, 4, 7)], ids=str)
def test_no_tile_spills(tile, tmp_path):
    registers, spills = assembled(made(tf.matmul(ph(256, 64), ph(64, 256)), tile).launches[0].source, tmp_path)
    assert registers <= 128 and spills == 0


@ptxas
def test_windows_of_a_convolution_cost_little(tmp_path):
    y = tf.nn.conv2d(ph(64, 56, 56, 64), ph(3, 3, 64, 128), (1, 1, 1, 1), "SAME")
    registers, spills = assembled(made(y, gemm.TILES[0]).launches[0].source, tmp_path)
    assert registers <= 128 and spills == 0
    loop = main_loop(tmp_path)
    assert loop["FFMA"] > 0.8 * sum(loop.values())
