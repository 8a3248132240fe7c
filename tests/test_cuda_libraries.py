"""cuBLASLt and cuDNN through descriptors: what is asked of them, interpreted by NumPy as the manuals say, is what was described."""
from __future__ import annotations

import gc
import json
from dataclasses import replace

import numpy as np
import pytest
from test_cuda_library_calls import convolution, described, ph

import graphflow as tf
from graphflow import types
from graphflow.codegen import contract, ir
from graphflow.codegen.cuda import library_calls
from graphflow.codegen.cuda.library_calls import Convolution, Matmul, View
from graphflow.codegen.ir import Buffer, Kernel, Stage
from graphflow.flags import flags
from graphflow.runtime.cuda import driver, libraries
from graphflow.runtime.cuda.libraries import cublaslt, cudnn, loading
from graphflow.testing.libraries import FakeCublasLt, FakeCudnn, HostMemory

DTYPES = {d.name: d for d in (types.float32, types.float64, types.float16, types.bfloat16)}
STREAM = 7


class Machine:
    """Memory and both libraries on it."""

    def __init__(self):
        self.memory, self.queued = HostMemory(), []
        self.lt = FakeCublasLt(self.memory, lambda stream, work: self.queued.append((stream, work)))
        self.dnn = FakeCudnn(self.memory, lambda stream, work: self.queued.append((stream, work)))

    def put(self, values: np.ndarray, dtype: types.DType) -> int:
        return self.memory.put(types.bf16_encode(values) if dtype is types.bfloat16 else values.astype(dtype.np))

    def get(self, address: int, dtype: types.DType) -> np.ndarray:
        found = self.memory.get(address, dtype.np)
        return types.bf16_decode(found) if dtype is types.bfloat16 else found.astype(np.float64)

    def run(self, call, *addresses, **extra) -> None:
        work = {"workspace": self.memory.put(np.zeros(call.workspace_bytes, np.uint8))} if call.workspace_bytes else {}
        call.enqueue(STREAM, *addresses, **work, **extra)
        for stream, work in self.queued:
            assert stream == STREAM
            work()
        self.queued.clear()


@pytest.fixture
def machine():
    m = Machine()
    with libraries.installed(cublaslt=m.lt, cudnn=m.dnn):
        yield m
    libraries.forget()


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        yield


def close(found: np.ndarray, expected: np.ndarray, dtype: types.DType) -> None:
    step = {"float32": 1e-6, "float64": 1e-14, "float16": 1e-3, "bfloat16": 8e-3}[dtype.name]
    np.testing.assert_allclose(found, expected, rtol=8 * step, atol=8 * step * (1 + np.abs(expected).max(initial=0)))


# ---------------------------------------------------------------- matrix products


def matrix(rng, rows: int, columns: int, dtype: types.DType, batches: tuple[int, ...] = (), packed: bool = False,
           turned: bool | None = None):
    """(view, memory): of random orientation, leading dimension and start."""
    turned = rng.integers(2) == 1 if turned is None else turned
    m, n = (columns, rows) if turned else (rows, columns)
    ld = n + (0 if packed else int(rng.integers(0, 5)))
    offset = 0 if packed else int(rng.integers(0, 3)) * 8
    strides, size = [], m * ld + (0 if packed else int(rng.integers(0, 9)))
    for n_batch in reversed(batches):
        strides.insert(0, size)
        size *= n_batch
    last = (1, ld) if turned else (ld, 1)
    values = rng.normal(size=size + offset)
    if dtype is types.bfloat16:
        values = types.bf16_decode(types.bf16_encode(values))
    return View(None, dtype, (*batches, rows, columns), (*strides, *last), offset), values.astype(np.float64)


def elements(v: View, flat: np.ndarray) -> np.ndarray:
    return np.lib.stride_tricks.as_strided(flat[v.offset:], v.sizes, [s * flat.itemsize for s in v.strides])


@pytest.mark.parametrize("seed", range(40))
def test_products_of_any_layout(machine, seed):
    rng = np.random.default_rng(seed)
    m, n, k = (int(x) for x in rng.integers(1, 9, 3))
    dtype = list(DTYPES.values())[seed % 4]
    result = types.float32 if dtype.size == 2 and rng.integers(2) else dtype
    batches = [(), (3,), (2, 3)][seed % 3]
    (a, av), (b, bv) = matrix(rng, m, k, dtype, batches), matrix(rng, k, n, dtype, batches)
    if batches and rng.integers(2):
        b = replace(b, strides=(0,) * len(batches) + b.strides[-2:])  # one matrix for all
    c, cv = matrix(rng, m, n, result, batches, turned=bool(seed % 5 == 4))
    alpha, beta = [(1.0, 0.0), (0.5, 0.0), (1.0, 1.0), (2.0, -0.5)][seed % 4]
    d = Matmul(a, b, c, dtype.compute, alpha, beta)
    call = libraries.prepare(d, alignment=16 if dtype.size == 2 else 32)
    at = [machine.put(v, t) for v, t in ((av, dtype), (bv, dtype), (cv, result))]
    before = machine.get(at[2], result).copy()
    stored = [machine.get(x, t) for x, t in zip(at, (dtype, dtype, result))]
    expected = alpha * np.matmul(elements(a, stored[0].astype(np.float64)), elements(b, stored[1].astype(np.float64))) + \
        beta * elements(c, before.astype(np.float64))
    machine.run(call, *at)
    after = machine.get(at[2], result)
    close(elements(c, np.array(after)), expected, result)
    untouched = np.ones(after.size, bool)
    elements(c, untouched)[:] = False
    assert np.array_equal(after[untouched], before[untouched], equal_nan=True)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))


def product(machine, epilogue: str, dtype=types.float32, m=5, n=6, k=4, seed=0, **extra):
    """(call, result, operands) of a row-major product with an epilogue."""
    rng = np.random.default_rng(seed)
    (a, av), (b, bv), (c, cv) = (matrix(rng, *shape, dtype, packed=True, turned=False) for shape in ((m, k), (k, n), (m, n)))
    call = libraries.prepare(Matmul(a, b, c, dtype.compute, epilogue=epilogue))
    at = [machine.put(v, dtype) for v in (av, bv, cv)]
    machine.run(call, *at, **extra)
    return call, machine.get(at[2], dtype).reshape(m, n), machine.get(at[0], dtype).reshape(m, k), machine.get(at[1], dtype).reshape(k, n)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("epilogue", ["bias", "relu", "bias+relu", "gelu_tanh", "bias+gelu_tanh"])
def test_epilogues_for_rows(machine, epilogue, dtype):
    dtype = DTYPES[dtype]
    bias = np.linspace(-1, 1, 6)
    extra = {"bias": machine.put(bias, dtype)} if "bias" in epilogue else {}
    call, found, a, b = product(machine, epilogue, dtype, **extra)
    expected = a @ b + (machine.get(extra["bias"], dtype) if extra else 0)
    close(found, np.maximum(expected, 0) if "relu" in epilogue else gelu(expected) if "gelu" in epilogue else expected, dtype)
    assert call.label.endswith(epilogue)


def test_a_layer_and_its_gradient(machine):
    """y = relu(x w + b) keeps a mask; its gradient reads it, and sums over rows for b."""
    m, n, k = 5, 6, 4
    bias = np.linspace(-1, 1, n).astype(np.float32)
    shape = libraries.prepare(packed_product(m, n, k, "bias+relu+mask"))
    assert shape.aux_shape == (m, 128) and shape.aux_bytes == m * 16
    mask = machine.put(np.zeros(shape.aux_bytes, np.uint8), types.uint8)
    _, y, x, w = product(machine, "bias+relu+mask", bias=machine.put(bias, types.float32), aux=mask)
    z = x @ w + bias
    close(y, np.maximum(z, 0), types.float32)
    # dx' = (dy v^T) where the mask is set: a product whose result has y's shape.
    db = machine.put(np.zeros(n), types.float32)
    _, dz, dy, v = product(machine, "drelu+dbias", seed=3, aux=mask, bias=db)
    expected = np.where(z > 0, dy @ v, 0)
    close(dz, expected, types.float32)
    close(machine.get(db, types.float32), expected.sum(0), types.float32)
    _, dz, dy, v = product(machine, "drelu", seed=4, aux=mask)
    close(dz, np.where(z > 0, dy @ v, 0), types.float32)


def test_gelu_and_its_gradient(machine):
    m, n = 5, 6
    shape = libraries.prepare(packed_product(m, n, 4, "gelu_tanh+input"))
    assert shape.aux_shape == (m, 8) and shape.aux_bytes == m * 8 * 4
    aux = machine.put(np.zeros(m * 8), types.float32)
    _, y, x, w = product(machine, "gelu_tanh+input", aux=aux)
    z = x @ w
    close(machine.get(aux, types.float32).reshape(m, 8)[:, :n], z, types.float32)
    close(y, gelu(z), types.float32)
    db = machine.put(np.zeros(n), types.float32)
    _, dz, dy, v = product(machine, "dgelu_tanh+dbias", seed=3, aux=aux, bias=db)
    h = 1e-5
    expected = (dy @ v) * (gelu(z.astype(np.float64) + h) - gelu(z.astype(np.float64) - h)) / (2 * h)
    close(dz, expected, types.float32)
    close(machine.get(db, types.float32), expected.sum(0), types.float32)


def test_sums_of_operands(machine):
    """The gradient of a weight, x^T dy, gives that of the bias on the way."""
    for name, axis, size in (("sum_b", 0, 6), ("sum_a", 1, 5)):
        out = machine.put(np.zeros(size), types.float32)
        _, found, a, b = product(machine, name, bias=out)
        close(found, a @ b, types.float32)
        close(machine.get(out, types.float32), (b if name == "sum_b" else a).sum(axis), types.float32)


def packed_product(m: int, n: int, k: int, epilogue: str = "", dtype=types.float32, batches: tuple[int, ...] = ()) -> Matmul:
    rng = np.random.default_rng(0)
    return Matmul(*(matrix(rng, *shape, dtype, batches, packed=True, turned=False)[0] for shape in ((m, k), (k, n), (m, n))),
                  dtype.compute, epilogue=epilogue)


def test_calls_are_made_once_and_say_what_runs(machine):
    d = packed_product(5, 6, 4)
    call = libraries.prepare(d)
    assert libraries.prepare(replace(d, a=replace(d.a, buffer=types))) is call  # whichever array it is
    assert libraries.prepare(d, ordinal=1) is not call
    assert call.label == "cuBLASLt 13.4 f32 5x6x4 nn" and call.workspace_bytes == 4096
    assert libraries.prepare(d, workspace=0).workspace_bytes == 0
    with flags.override(tf32=1):
        assert libraries.prepare(d).label == "cuBLASLt 13.4 tf32 5x6x4 nn"
    assert libraries.prepare(packed_product(5, 6, 4, batches=(3,))).label == "cuBLASLt 13.4 f32 5x6x4 x3 nn"
    several = replace(d, a=replace(d.a, sizes=(2, 3, 5, 4), strides=(60, 20, 4, 1)),
                      b=replace(d.b, sizes=(2, 3, 4, 6), strides=(0, 24, 6, 1)),
                      c=replace(d.c, sizes=(2, 3, 5, 6), strides=(90, 30, 6, 1)))
    assert libraries.prepare(several).label.endswith("x3 nn in 2 calls")


def test_nothing_runs_until_the_stream_does(machine):
    """A call only queues: inside a capture it is recorded."""
    call = libraries.prepare(packed_product(2, 2, 2))
    a, b, c, w = (machine.put(np.ones(n), types.float32) for n in (4, 4, 4, 1024))
    call.enqueue(STREAM, a, b, c, workspace=w)
    assert machine.get(c, types.float32).tolist() == [1] * 4 and len(machine.queued) == 1
    machine.queued[0][1]()
    assert machine.get(c, types.float32).tolist() == [2] * 4


def test_addresses_are_checked(machine):
    call = libraries.prepare(packed_product(2, 2, 2, "bias"))
    a, b, c, w = (machine.put(np.ones(n), types.float32) for n in (4, 4, 4, 1024))
    with pytest.raises(ValueError, match=r"f32 2x2x2 nn bias: the address of bias is 0x0, expected one divisible by 16"):
        call.enqueue(STREAM, a, b, c, workspace=w)
    with pytest.raises(ValueError, match="the address of a is"):
        call.enqueue(STREAM, a + 4, b, c, workspace=w, bias=c)
    with pytest.raises(ValueError, match="the address of workspace is 0x0, expected one divisible by 256"):
        call.enqueue(STREAM, a, b, c, bias=c)
    assert not machine.queued


@pytest.mark.parametrize("change, reason", [
    (lambda d: replace(d, a=replace(d.a, sizes=(5, 0)), b=replace(d.b, sizes=(0, 6))), "without elements"),
    (lambda d: replace(d, a=replace(d.a, strides=(8, 2))), "neither its rows nor its columns"),
    (lambda d: replace(d, a=replace(d.a, strides=(0, 1))), "neither its rows nor its columns"),
    (lambda d: replace(d, c=replace(d.c, strides=(12, 2))), "the result's strides"),
    (lambda d: replace(d, a=replace(d.a, dtype=types.int8)), "a product of int8 and float32 stored as float32"),
    (lambda d: replace(d, c=replace(d.c, dtype=types.float16)), "stored as float16"),
    (lambda d: replace(d, epilogue="swish"), "no epilogue 'swish'"),
    (lambda d: replace(d, epilogue="bias", c=replace(d.c, strides=(1, 5))), "needs one row-major result"),
    (lambda d: replace(d, c=replace(d.c, sizes=(9, 5, 6), strides=(0, 6, 1)), a=replace(d.a, sizes=(9, 5, 4), strides=(20, 4, 1)),
                       b=replace(d.b, sizes=(9, 4, 6), strides=(0, 6, 1))), "written more than once")])
def test_what_cublaslt_does_not_compute(machine, change, reason):
    d = change(packed_product(5, 6, 4))
    answer = libraries.supports(d)
    assert not answer and reason in answer.reason
    with pytest.raises(libraries.Refused, match=reason):
        libraries.prepare(d)


def test_doubles_have_no_epilogue(machine):
    assert libraries.supports(packed_product(5, 6, 4, dtype=types.float64))
    assert "float64" in libraries.supports(packed_product(5, 6, 4, "bias", types.float64)).reason


def test_too_many_launches(machine):
    d = packed_product(2, 2, 2)
    d = replace(d, a=replace(d.a, sizes=(70, 71, 2, 2), strides=(4, 400, 2, 1)), b=replace(d.b, sizes=(70, 71, 2, 2), strides=(0, 4, 2, 1)),
                c=replace(d.c, sizes=(70, 71, 2, 2), strides=(284, 4, 2, 1)))
    assert "70 products would be launched" in libraries.supports(d).reason


def test_descriptors_are_given_back(machine):
    libraries.prepare(packed_product(5, 6, 4, "bias"))
    assert {o.kind for o in machine.lt.objects.values()} == {"handle", "product", "layout"}
    libraries.forget()
    gc.collect()
    assert {o.kind for o in machine.lt.objects.values()} == {"handle"}


# ---------------------------------------------------------------- convolutions


def image_arrays(d: Convolution, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(-3, 4, 1 + v.offset + sum((n - 1) * s for n, s in zip(v.sizes, v.strides))).astype(np.float64) for v in d.operands]


def ran(machine, d: Convolution, seed: int = 0, **choice):
    """(call, what memory holds afterwards, what the definition gives)."""
    call = libraries.prepare(d, **choice)
    arrays = image_arrays(d, seed)
    at = [machine.put(v, view.dtype) for v, view in zip(arrays, d.operands)]
    out = machine.put(np.zeros(int(np.prod(d.result.sizes))), d.result.dtype)
    machine.run(call, *at, out)
    return call, machine.get(out, d.result.dtype), convolution(d, *[v.astype(d.compute.np) for v in arrays])


CASES = [((2, 7, 6, 3), (3, 3, 3, 4), (1, 1), "SAME", (1, 1)), ((2, 8, 9, 3), (3, 3, 3, 4), (2, 2), "SAME", (1, 1)),
         ((1, 11, 10, 3), (3, 2, 3, 5), (1, 1), "VALID", (2, 2)), ((2, 9, 8, 1), (3, 1, 1, 4), (2, 1), "SAME", (1, 1)),
         ((2, 9, 8, 3), (1, 1, 3, 4), (2, 2), "SAME", (1, 1))]


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolutions_and_gradients_of_graphs(machine, case, format, dtype):
    xs, ws, strides, padding, dilations = case
    order = (0, 1, 2, 3) if format == "NHWC" else (0, 3, 1, 2)
    spread = lambda two: [(1, *two, 1)[i] for i in order]  # noqa: E731
    x, w = ph(*[xs[i] for i in order], dtype=DTYPES[dtype]), ph(*ws, dtype=DTYPES[dtype])
    y = tf.nn.conv2d(x, w, spread(strides), padding, data_format=format, dilations=spread(dilations))
    for t in (y, *tf.gradients(y, [x, w], grad_ys=ph(*y.shape.as_list(), dtype=DTYPES[dtype]))):
        call, found, expected = ran(machine, described(t)[1])
        close(found, expected, DTYPES[dtype])
        layout = "" if xs[-1] == 1 else " NHWC" if call.c.kind == "data" else f" {format}"  # a gradient is turned round after it
        assert call.label.startswith(f"cuDNN 9.28 {call.c.kind} {DTYPES[dtype].code}{layout} ")


def test_groups_volumes_and_lines(machine):
    for x, w, make in ((ph(2, 6, 7, 4), ph(3, 3, 4, 2), lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME")),
                       (ph(2, 5, 6, 7, 2), ph(3, 2, 3, 2, 3), lambda x, w: tf.nn.conv3d(x, w, [1, 1, 2, 1, 1], "SAME")),
                       (ph(2, 20, 3), ph(3, 3, 4), lambda x, w: tf.nn.conv1d(x, w, 2, "SAME"))):
        y = make(x, w)
        for t in (y, *tf.gradients(y, [x, w], grad_ys=ph(*y.shape.as_list()))):
            call, found, expected = ran(machine, described(t)[1])
            assert np.array_equal(found, expected)
            assert ("groups 4" in call.label) == (call.c.groups == 4)


@pytest.mark.parametrize("epilogue", ["bias", "relu", "bias+relu", "add+bias+relu", "add", "bias+tanh", "sigmoid", "bias+gelu_tanh"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_epilogues_of_convolutions(machine, epilogue, dtype):
    dtype = DTYPES[dtype]
    d = conv(dtype, epilogue=epilogue)
    call = libraries.prepare(d)
    arrays = image_arrays(d)
    bias, add = np.array([-20, 0, 1, 20]), np.random.default_rng(1).integers(-9, 9, 2 * 7 * 6 * 4).astype(np.float64)
    extra = {name: machine.put(v, dtype) for name, v in (("bias", bias), ("add", add)) if name in epilogue}
    at = [machine.put(v, dtype) for v in (*arrays, np.zeros(2 * 7 * 6 * 4))]
    machine.run(call, *at, **extra)
    z = convolution(d, *[v.astype(np.float32) for v in arrays]).astype(np.float64)
    z = z.reshape(-1, 4) + (bias if "bias" in epilogue else 0) + (add.reshape(-1, 4) if "add" in epilogue else 0)
    then = epilogue.split("+")[-1]
    after = {"relu": lambda: np.maximum(z, 0), "tanh": lambda: np.tanh(z), "sigmoid": lambda: 1 / (1 + np.exp(-z)),
             "gelu_tanh": lambda: gelu(z)}.get(then, lambda: z)()
    close(machine.get(at[2], dtype).reshape(-1, 4), after, dtype)
    assert f" {epilogue} engine " in call.label


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parts_of_images(machine, dtype):
    """Views that do not begin where their array does, and are less aligned than it."""
    dtype = DTYPES[dtype]
    x, w = ph(3, 9, 8, 3, dtype=dtype), ph(3, 3, 3, 4, dtype=dtype)
    for part in (x[1:, 1:], x[:, 2:, 3:], x[:, 1:8, :7], x[:, :, 1:]):
        y = tf.nn.conv2d(part, w, [1, 1, 1, 1], "VALID")
        for t in (y, tf.gradients(y, w, grad_ys=ph(*y.shape.as_list(), dtype=dtype))[0]):
            call, found, expected = ran(machine, described(t)[1])
            assert call.c.x.offset and len(call.c.strides) == 2
            close(found, expected, dtype)


def test_inner_results_are_not_rounded(machine):
    """The 261 before the bias is no bfloat16."""
    d = described(tf.nn.conv2d(ph(1, 3, 3, 29, dtype=tf.bfloat16), ph(3, 3, 29, 2, dtype=tf.bfloat16), [1, 1, 1, 1], "SAME"))[1]
    at = [machine.put(v, types.bfloat16) for v in (np.ones(261), np.ones(522), np.zeros(18))]
    machine.run(libraries.prepare(replace(d, epilogue="bias")), *at, bias=machine.put(np.full(2, -260), types.bfloat16))
    assert machine.get(at[2], types.bfloat16).reshape(3, 3, 2)[1, 1].tolist() == [1, 1]


def test_relu_keeps_nan(machine):
    d = replace(described(tf.nn.conv2d(ph(1, 5, 5, 2), ph(3, 3, 2, 4), [1, 1, 1, 1], "SAME"))[1], epilogue="relu")
    x, w = image_arrays(d)
    x[0] = np.nan
    at = [machine.put(v, types.float32) for v in (x, w, np.zeros(100))]
    machine.run(libraries.prepare(d), *at)
    assert np.isnan(machine.get(at[2], types.float32)).sum() == 4 * 4


def conv(dtype=types.float32, **change) -> Convolution:
    d = described(tf.nn.conv2d(ph(2, 7, 6, 3, dtype=dtype), ph(3, 3, 3, 4, dtype=dtype), [1, 1, 1, 1], "SAME"))[1]
    return replace(d, **change)


def test_engines_that_round_or_are_not_deterministic_are_passed_over(machine):
    engine = lambda *a, **k: libraries.prepare(*a, **k).engine  # noqa: E731
    assert engine(conv()) == 1  # the first without tensor cores
    assert engine(conv(types.bfloat16)) == 66
    with flags.override(tf32=1):
        assert engine(conv()) == 66
        assert libraries.prepare(conv()).label.startswith("cuDNN 9.28 forward tf32 ")
    with flags.override(deterministic=1):
        assert engine(conv()) == 70
        assert engine(conv(types.bfloat16)) == 62
    with pytest.raises(libraries.Refused, match=r"2048 bytes of workspace, 100 are allowed; .*; the engine that takes everything, slower"):
        engine(conv(), workspace=100)
    machine.dnn.engines = {3: [], 2: [(25, (), 0)]}
    assert engine(conv(), workspace=100) == 25  # a fallback
    machine.dnn.engines = {3: [(66, (0,), 0), (9, (), 1 << 20)], 2: []}
    with pytest.raises(libraries.Refused, match=r"cuDNN 9.28 has no engine .* rounds .*; 1048576 bytes of workspace, 1000 are allowed"):
        libraries.prepare(conv(), workspace=1000)


@pytest.mark.parametrize("change, reason", [
    (lambda d: replace(d, epilogue="bias+swish"), "no epilogue"), (lambda d: replace(d, epilogue="relu+bias"), "no epilogue"),
    (lambda d: replace(d, kind="data", epilogue="bias"), "after the data gradient"),
    (lambda d: replace(d, y=replace(d.y, dtype=types.float16)), "a convolution of float16, float32"),
    (lambda d: replace(d, pads=((1, 1), (1, 3))), "windows do not follow"), (lambda d: replace(d, pads=((-1, 3), (1, 1))), "do not follow"),
    (lambda d: replace(d, x=replace(d.x, sizes=(0, *d.x.sizes[1:]))), "x has no elements"),
    (lambda d: replace(d, w=replace(d.w, strides=(0, *d.w.strides[1:]))), "w is read with strides")])
def test_what_cudnn_does_not_compute(machine, change, reason):
    d = change(conv())
    answer = libraries.supports(d)
    assert not answer and reason in answer.reason
    with pytest.raises(libraries.Refused, match=reason.replace("+", r"\+")):
        libraries.prepare(d)


def test_a_plan_for_a_device_that_is_only_described(machine):
    device = json.dumps({"deviceVer": 900})
    answer = libraries.supports(conv(), device)
    assert answer and answer.workspace_bytes == 2048 and "engine 1" in answer.label
    assert not machine.dnn.handles  # no device was asked for
    machine.dnn.engines = {3: [], 2: []}
    libraries.forget()
    assert "has no engine" in libraries.supports(conv(), device).reason
    assert "HasMember" in libraries.supports(conv(), "{}").reason
    machine.dnn.version = 90701
    libraries.forget()
    assert "too old" in libraries.supports(conv(), device).reason


def test_strides_of_axes_of_size_one_follow_the_layout():
    v = lambda sizes, strides: cudnn.strides(View(None, types.float32, sizes, strides))  # noqa: E731
    assert v((1, 3, 5, 6), (0, 1, 18, 3)) == (90, 1, 18, 3)
    assert v((2, 3, 1, 6), (18, 1, 0, 3)) == (18, 1, 18, 3)
    assert v((1, 3, 5, 6), (0, 30, 6, 1)) == (90, 30, 6, 1)
    assert v((2, 1, 5, 6), (30, 0, 6, 1)) == (30, 1, 6, 1)
    assert v((2, 3, 1, 1), (3, 1, 0, 0)) == (3, 1, 3, 3)


def test_cudnn_addresses_and_descriptors(machine):
    call = libraries.prepare(conv(epilogue="bias"))
    at = [machine.put(np.ones(1000), types.float32) for _ in range(5)]
    with pytest.raises(ValueError, match="the address of bias is 0x0"):
        call.enqueue(STREAM, *at[:3], workspace=at[3])
    before = len(machine.dnn.objects)
    call.enqueue(STREAM, *at[:3], workspace=at[3], bias=at[4])
    gc.collect()
    assert len(machine.dnn.objects) == before  # what a call makes is gone
    del call
    libraries.forget()
    gc.collect()
    assert not machine.dnn.objects


# ---------------------------------------------------------------- what follows a contraction


class Seen(Exception):
    """Stops a compilation where a contraction and what follows it are known."""


def followed(monkeypatch, fetch, feeds) -> tuple:
    """(description, what follows, the result between them, buffers) of the contraction of a program, as the compiler makes them."""
    def kernels(name, op, stored, then=None, result=None, *rest, **more):
        p = contract.product(op, lambda t, index: None if stored.get(t) is None else ir.load(stored[t], index))
        raise Seen(library_calls.from_product(p, op.outputs[0].dtype), then, result)
    monkeypatch.setattr(contract, "kernels", kernels)
    on_cpu = tf.ConfigProto(device_count={"GPU": 0})
    with flags.override(early=0, cache_dir=""), tf.Session(config=on_cpu) as s, pytest.raises(Seen) as seen:
        s.run(fetch, feeds)
    return seen.value.args


def dense(dtype=tf.float32):
    """Placeholders x, w, b, z with data."""
    rng = np.random.default_rng(0)
    shapes = ((32, 24), (24, 40), (40,), (32, 40))
    feeds = {tf.placeholder(dtype, s): rng.normal(size=s).astype(dtype.np) for s in shapes}
    return (*feeds, feeds)


@pytest.mark.filterwarnings("ignore:feed_dict")
@pytest.mark.parametrize("name, after, epilogue, reads", [
    ("bias", lambda y, b, z: y + b, "bias", ("b", None)), ("scale", lambda y, b, z: 0.25 * y, "", (None, None)),
    ("difference", lambda y, b, z: y - z, "", (None, "z")), ("other", lambda y, b, z: b - (z * 0.5 + y) * 3.0, "bias", ("b", "z")),
    ("add", lambda y, b, z: z + y, "", (None, "z")), ("all", lambda y, b, z: (2.0 * y + b) + z, "bias", ("b", "z")),
    ("gelu", lambda y, b, z: gelu_of(y + b), "bias+gelu_tanh", ("b", None)),
    ("gelu alone", lambda y, b, z: gelu_of(y), "gelu_tanh", (None, None))])
def test_what_follows_a_product(machine, monkeypatch, name, after, epilogue, reads):
    x, w, b, z, feeds = dense()
    y = tf.matmul(x, w)
    end = after(y, b, z)
    with flags.override(interpret=1), tf.Session() as s:
        expected = s.run(end, feeds)
    d, then, result = followed(monkeypatch, end, feeds)
    env = {"n0": 32}
    f = library_calls.fused(d, then, result)
    assert f is not None and f.call.epilogue == epilogue
    assert (f.bias and f.bias.sizes, f.add and f.add.sizes) == (reads[0] and (40,), reads[1] and (32, 40))
    call = libraries.prepare(f.call.bind(env))
    values = {"x": feeds[x], "w": feeds[w], "b": feeds[b], "z": feeds[z]}
    at = [machine.put(v, types.float32) for v in (values["x"], values["w"], np.zeros((32, 40)))]
    extra = {k: machine.put(values[r], types.float32) for k, r in zip(("bias", "add"), reads) if r}
    machine.run(call, *at, **extra)
    close(machine.get(at[2], types.float32).reshape(32, 40), expected, types.float32)


def gelu_of(x):
    return 0.5 * x * (1.0 + tf.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + 0.044715 * tf.pow(x, 3.0))))


@pytest.mark.filterwarnings("ignore:feed_dict")
@pytest.mark.parametrize("after", [
    lambda y, b, z: tf.nn.relu(y + b),  # cuBLASLt may lose NaN
    lambda y, b, z: y * z, lambda y, b, z: y + b * 2.0, lambda y, b, z: tf.exp(y),
    lambda y, b, z: y + z + tf.transpose(tf.transpose(z) * 2.0),
    lambda y, b, z: y + tf.reshape(z[:, 0], [32, 1])])
def test_what_no_epilogue_computes(monkeypatch, after):
    x, w, b, z, feeds = dense()
    d, then, result = followed(monkeypatch, after(tf.matmul(x, w), b, z), feeds)
    assert isinstance(d, Matmul) and then is not None
    assert library_calls.fused(d, then, result) is None


def test_a_vector_along_the_rows_and_one_of_another_dtype_are_no_bias(monkeypatch):
    x, w, b, half = ph(40, 24), ph(24, 40), ph(40), ph(40, dtype=tf.float16)
    feeds = {t: np.ones(t.shape.as_list(), t.dtype.np) for t in (x, w, b)}
    y = tf.matmul(x, w)
    assert library_calls.fused(*followed(monkeypatch, y + b, feeds)) is not None
    assert library_calls.fused(*followed(monkeypatch, y + tf.reshape(b, [40, 1]), feeds)) is None
    del feeds[b]
    assert library_calls.fused(*followed(monkeypatch, y + tf.cast(half, tf.float32), {**feeds, half: np.ones(40, np.float16)})) is None


def by_hand(d, expr, **stage) -> library_calls.Fused | None:
    """What `fused` makes of one stage over the result [5, 6] of a product: its element is `expr(y, z, b)`."""
    sizes = (2, 7, 6, 4) if isinstance(d, Convolution) else (5, 6)
    dtype = d.compute
    result, z, out = (Buffer(dtype, sizes, "in") for _ in range(3))
    b = Buffer(dtype, sizes[-1:], "in")
    i, j = ir.Axis(int(np.prod(sizes[:-1]))), ir.Axis(sizes[-1])
    place = ir.axis(i) * sizes[-1] + ir.axis(j)
    load = lambda b, at: ir.make("at", (at,), dtype, b)  # noqa: E731
    value = expr(load(result, place), load(z, place), load(b, ir.axis(j)))
    return library_calls.fused(d, Kernel("", (result, z, b, out), (Stage(out, (i, j), (place,), value, **stage),), (i, j)), result)


def test_epilogues_by_hand():
    d, c = packed_product(5, 6, 4), conv()
    found = by_hand(d, lambda y, z, b: y * 2.0 - z + b)
    assert (found.call.alpha, found.call.beta, found.call.epilogue) == (2, -1, "bias")
    relu = lambda x: ir.m.max(x, 0.0)  # noqa: E731
    assert by_hand(c, lambda y, z, b: relu(b + y + z)).call.epilogue == "add+bias+relu"
    assert by_hand(c, lambda y, z, b: relu(y)) is None and by_hand(c, lambda y, z, b: ir.m.tanh(y + b)) is None
    assert by_hand(c, lambda y, z, b: ir.select(y + b > 0.0, y + b, 0.0)) is None  # of NaN it makes 0
    assert by_hand(d, lambda y, z, b: y + b + y) is None and by_hand(d, lambda y, z, b: z + b) is None
    assert by_hand(d, lambda y, z, b: y + b, combine="add") is None
    assert by_hand(c, lambda y, z, b: y * 2.0 + b) is None and by_hand(c, lambda y, z, b: y - z + b) is None
    assert by_hand(replace(c, kind="data"), lambda y, z, b: y + b) is None
    assert by_hand(replace(d, epilogue="bias"), lambda y, z, b: y + z) is None
    double = packed_product(5, 6, 4, dtype=types.float64)
    assert by_hand(double, lambda y, z, b: y + b) is None
    assert by_hand(double, lambda y, z, b: y + z).call.beta == 1


def test_few_calls_are_kept(machine, monkeypatch):
    monkeypatch.setattr(libraries, "KEPT", 2)
    calls = [libraries.prepare(packed_product(5, 6, k)) for k in (4, 5, 6)]
    assert libraries.prepare(packed_product(5, 6, 6)) is calls[2] and libraries.prepare(packed_product(5, 6, 4)) is not calls[0]


def test_what_follows_a_convolution(machine, monkeypatch):
    x, w, b, z = ph(2, 8, 8, 8), ph(3, 3, 8, 16), ph(16), ph(2, 8, 8, 16)
    rng = np.random.default_rng(0)
    feeds = {t: rng.normal(size=t.shape.as_list()).astype(np.float32) for t in (x, w, b, z)}
    end = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, w, [1, 1, 1, 1], "SAME"), b) + z)
    with flags.override(interpret=1), tf.Session() as s:
        expected = s.run(end, feeds)
    f = library_calls.fused(*followed(monkeypatch, end, feeds))
    assert f.call.epilogue == "add+bias+relu"
    at = [machine.put(v, types.float32) for v in (feeds[x], feeds[w], np.zeros_like(expected))]
    machine.run(libraries.prepare(f.call), *at, bias=machine.put(feeds[b], types.float32), add=machine.put(feeds[z], types.float32))
    np.testing.assert_allclose(machine.get(at[2], types.float32).reshape(expected.shape), expected, 1e-4, 1e-4)


# ---------------------------------------------------------------- availability


class Real(driver.Libcuda):
    """A driver of NVIDIA's, as far as asking for its version goes."""

    def __init__(self, version: int = 13000):
        self.name, self.version = "CUDA", version


def test_why_a_library_is_not_used(monkeypatch):
    monkeypatch.setattr(loading, "FILES", {"cublaslt": ("libnosuch.so.13",), "cudnn": ("libnosuchdnn.so.9",)})
    loading.forget()
    try:
        with driver.installed(Real()):
            assert not libraries.available("cudnn")
            assert libraries.why_not("cudnn") == "cuDNN (libnosuchdnn.so.9) is not installed: pip install 'graphflow[cuda-libs]'"
            with pytest.raises(libraries.Missing, match="cuBLASLt .* is not installed: pip install"):
                libraries.prepare(packed_product(2, 2, 2))
            with flags.override(cuda_libraries=0):
                assert libraries.why_not("cublaslt") == "cuBLASLt is switched off by the flag cuda_libraries"
        assert "not installed" in libraries.supports(conv(), "{}").reason
    finally:
        loading.forget()


def test_a_library_without_a_function_is_not_used(monkeypatch):
    monkeypatch.setattr(loading, "FILES", {"cublaslt": ("libc.so.6",), "cudnn": ("libc.so.6",)})
    loading.forget()
    try:
        with pytest.raises(libraries.Missing, match=r"cuBLASLt cannot be loaded: .*cublasLtGetVersion.*graphflow\[cuda-libs\]"):
            loading.library("cublaslt", cublaslt.PROTOTYPES)
    finally:
        loading.forget()


def test_a_library_newer_than_the_driver(monkeypatch):
    m = Machine()
    monkeypatch.setattr(loading, "_loaded", {"cublaslt": m.lt, "cudnn": m.dnn})  # as if found where the system looks
    with driver.installed(Real(12040)):
        for name in ("cuBLASLt", "cuDNN"):
            assert libraries.why_not(name.lower()) == \
                f"this {name} needs a driver of CUDA 13 or later, and that of CUDA 12.4 is here: update it"
    with driver.installed(Real(13000)):
        assert libraries.available("cublaslt") and libraries.available("cudnn")


def test_an_emulated_device_has_no_real_library():
    class Emulated:
        name = "emulated"
    with driver.installed(Emulated()):
        assert libraries.why_not("cublaslt") == "cuBLASLt needs a real device, and emulated is in use"


def test_errors_name_the_library():
    error = libraries.LibraryError("cudnn", 3000, "cudnnBackendFinalize: CUDNN_STATUS_NOT_SUPPORTED")
    assert str(error) == "cuDNN: cudnnBackendFinalize: CUDNN_STATUS_NOT_SUPPORTED (status 3000)" and error.code == 3000
    with pytest.raises(ValueError, match="no library 'cufft'; there are cublaslt, cudnn"):
        libraries.why_not("cufft")
