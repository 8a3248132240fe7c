"""`python -m graphflow gpu`: what the GPUs here are, and a ladder of short steps that show whether programs run right on the first one.

Each step compares what the GPU computes with the reference interpreter or NumPy, from one kernel on a stream to a training step; one that
fails says what differs and where the text and the PTX of its kernels lie, and the next one runs.  `--emulated` climbs the same ladder on
the emulator, with small arrays.
Place: a user's first command on a machine with a GPU; benchmarks/gpu.py measures.
"""
from __future__ import annotations

import faulthandler
import re
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

import graphflow as tf
from graphflow.codegen.cuda import texts
from graphflow.flags import flags
from graphflow.runtime.cuda import device as devices_of
from graphflow.runtime.cuda import driver as drivers
from graphflow.runtime.cuda.arrays import DeviceArray
from graphflow.runtime.cuda.device import Device
from graphflow.testing import emulated_gpu

PATIENCE = 300.0  # seconds of one step, before the stacks are printed and the process ends
ON_CPU = tf.ConfigProto(device_count={"GPU": 0}, allow_soft_placement=True)
FIRST = """\
# twice, and one more
#: ppi 128
def kernel(p0, p1, s0):
    i = block() * 128 + thread()
    if i < s0:
        st_f32(p1, i, ld_f32(p0, i, 0) * np.float32(2) + np.float32(1), 1)
"""


class Differs(AssertionError):
    """The GPU has computed something else."""


class Skipped(Exception):
    """A step that does not apply here; its text says why."""


class Step(NamedTuple):
    """run: gets the `Bench`, and returns what is to be told of a step that went well."""

    name: str
    run: Callable[[Bench], str | None]


class Bench:
    """What steps work with.  emulated: sizes are small, and times mean nothing.  patience: seconds that a step may take, 0: any.

    written: the folder with the kernels of failed steps, once there is one.
    """

    def __init__(self, emulated: bool, patience: float = 0.0):
        self.emulated, self.patience, self.rng = emulated, patience, np.random.default_rng(0)
        self.device: Device = devices_of.devices()[0]
        self.written: Path | None = None

    def n(self, real: int, emulated: int) -> int:
        """A size."""
        return emulated if self.emulated else real

    def few(self, *cases: Any) -> Sequence[Any]:
        """All cases, on the emulator the first."""
        return cases[:1] if self.emulated else cases

    def floats(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def on_gpu(self, fetches: Any, feeds: Any = None, runs: int = 3) -> list[Any]:
        """Results of some runs: the first is queued piece by piece, the second recorded as a graph, the third replays it."""
        with tf.Session() as sess:
            try:
                sess.run(tf.global_variables_initializer())
                return [sess.run(fetches, feeds) for _ in range(runs)]
            except Exception as error:
                self.name(error, fetches, feeds)
                raise

    def both(self, fetches: Any, feeds: Any = None, runs: int = 3, rtol: float = 1e-5, exact: bool = False) -> None:
        """Some runs on the GPU and by the reference interpreter; an element may differ by rtol of the largest one of its array, and by 0
        where `exact`.  Raises Differs."""
        found = self.on_gpu(fetches, feeds, runs)
        with tf.Session(config=ON_CPU) as sess, flags.override(interpret=1):
            sess.run(tf.global_variables_initializer())
            wanted = [sess.run(fetches, feeds) for _ in range(runs)]
        try:
            for number, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
                for tensor, a, b in zip(tf.nest.flatten(fetches), tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
                    if b is not None:
                        same(f"{tensor.name}, run {number + 1}", a, b, 0.0 if exact else rtol)
        except Differs as error:
            self.name(error, fetches, feeds)
            raise

    def name(self, error: Exception, fetches: Any, feeds: Any) -> None:
        """Adds to an error the kernels of the request: labels, and files with their texts and PTX."""
        capability = self.device.properties.capability
        try:  # a plan for a lost device is made on the emulator
            with emulated_gpu(capability=capability) if self.device.lost else nullcontext(), tf.Session() as sess:
                kernels = tf.explain(fetches, feeds, sess).kernels
            lines = [f"  {k.name}: {self._files(k, capability)}" for k in kernels if "(GPU)" in k.kind]
        except Exception as problem:  # the first error is what matters
            lines = [f"  (cannot be told: {problem})"]
        error.add_note("\n".join(["kernels of this request:", *lines]))

    def _files(self, kernel: Any, capability: tuple[int, int]) -> str:
        if not kernel.source:
            return "a library's"
        self.written = self.written or Path(tempfile.mkdtemp(prefix="graphflow-gpu-"))
        stem = self.written / f"{len(list(self.written.glob('*.py')))}_{re.sub('[^A-Za-z0-9_]+', '_', kernel.name)[:60]}"
        stem.with_suffix(".py").write_text(kernel.source)
        stem.with_suffix(".ptx").write_text(kernel.ptx(capability))
        return f"{stem}.py, .ptx"


def same(what: str, ours: Any, theirs: Any, rtol: float) -> None:
    """Raises Differs, with the worst element.  rtol: of the largest finite element; NaN and infinities must be at the same places."""
    a, b = np.asarray(ours), np.asarray(theirs)
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        raise Differs(f"{what} is {a.dtype}{list(a.shape)} on the GPU, {b.dtype}{list(b.shape)} on the CPU")
    if a.dtype.kind in "fc":
        x, y = a.astype(np.float64 if a.dtype.kind == "f" else complex), b.astype(np.float64 if a.dtype.kind == "f" else complex)
        finite = np.isfinite(x) & np.isfinite(y)
        with np.errstate(invalid="ignore", over="ignore"):
            off = np.where(finite, np.abs(x - y), np.where((x == y) | np.isnan(x) & np.isnan(y), 0.0, np.inf))
        bound = rtol * max(np.abs(y, where=finite, out=np.zeros(y.shape)).max(initial=0.0), 1e-30)
    else:
        off, bound = (a != b).astype(float), 0.0
    wrong = off > bound
    if wrong.any():
        at = np.unravel_index(int(off.argmax()), off.shape)
        where = f" at {tuple(map(int, at))}" if at else ""
        raise Differs(f"{what}: {int(wrong.sum())} of {a.size} elements differ, the worst{where}: {a[at]!r} on the GPU, {b[at]!r} on the "
                      f"CPU (allowed: {bound:.3g})")


# ---------------------------------------------------------------- the device itself


def one_kernel(c: Bench) -> str:
    """Compiled here, linked by the driver, launched and waited for."""
    device, n = c.device, 1000
    kernel = device.kernel(texts.ptx_of(FIRST, device.properties.capability), "kernel", texts.label(FIRST))
    x = c.floats(n)
    a, b = DeviceArray.put(device, x), DeviceArray.empty(device, (n,), tf.float32)
    kernel.prepare("ppi", [a.address, b.address, n], (-(-n // 128), 1, 1), (128, 1, 1))()
    same("2 x + 1", b.numpy(), x * np.float32(2) + np.float32(1), 1e-6)
    return "" if c.emulated else f"{kernel.attributes['registers']} registers a thread"


def copies(c: Bench) -> None:
    """Between host and device, of page-locked and of other memory, of odd sizes; fills; on the device."""
    device = c.device
    for n in (1, 255, 4097, c.n((64 << 20) + 3, 100_003)):
        x = c.rng.integers(0, 256, n).astype(np.uint8)
        a, b = device.allocate(n), device.allocate(n)
        for make in (lambda m: device.pinned(m, np.uint8), lambda m: np.empty(m, np.uint8)):
            source, target = make(n), make(n)
            source[:], target[:] = x, 0
            device.fill(b, 7, n)
            device.copy_in(a, source)
            device.copy(b, a, n)
            device.copy_out(target, b)
            device.synchronize("copies")
            same(f"{n} bytes, there and back", target, x, 0)
        device.fill(a, 201, n)
        device.copy_out(target, a)
        device.synchronize("a fill")
        same(f"{n} filled bytes", target, np.full(n, 201, np.uint8), 0)
        device.free(a)
        device.free(b)


def a_graph(c: Bench) -> None:
    """A copy in, a kernel and a copy out, recorded once and replayed on new values."""
    device, n = c.device, 5000
    kernel = device.kernel(texts.ptx_of(FIRST, device.properties.capability), "kernel", texts.label(FIRST))
    a, b = (DeviceArray.empty(device, (n,), tf.float32) for _ in range(2))
    launch = kernel.prepare("ppi", [a.address, b.address, n], (-(-n // 128), 1, 1), (128, 1, 1))
    given, taken = device.pinned(n, np.float32), device.pinned(n, np.float32)
    with device.capture("the first graph") as recorded:
        device.fill(b.address, 0, 4 * n)
        device.copy_in(a.address, given)
        launch()
        device.copy_out(taken, b.address)
    for turn in range(4):
        given[:], taken[:] = c.floats(n), 0
        recorded.graph()
        device.synchronize("the first graph")
        same(f"2 x + 1, replay {turn + 1}", taken, given * np.float32(2) + np.float32(1), 1e-6)


# ---------------------------------------------------------------- kernels of each form


def elementwise(c: Bench) -> None:
    n = c.n(1_000_003, 1003)
    x, y = tf.placeholder(tf.float32, [n]), tf.placeholder(tf.float32, [n])
    i = tf.cast(x * 1000, tf.int32)
    half, brain, double = tf.cast(x, tf.float16), tf.cast(x, tf.bfloat16), tf.cast(x, tf.float64)
    alone = {x: c.floats(n)}
    feeds = {**alone, y: np.abs(c.floats(n)) + 0.5}
    c.both([tf.tanh(x) * tf.exp(-x) + tf.sigmoid(y), tf.log(y) / tf.sqrt(y), tf.erf(x), tf.sin(x) + tf.pow(y, 1.7), tf.nn.softplus(x)],
           feeds, rtol=4e-6)
    c.both([tf.exp(double) * tf.cos(double), tf.where(x > 0, double, -double)], alone, rtol=1e-14)
    c.both([half * half + half, tf.cast(brain * brain + brain, tf.float32)], alone, rtol=8e-3)
    c.both([i // 7, i % 7, i * i, tf.bitwise.bitwise_xor(i, 5), tf.logical_and(x > 0, y < 1), tf.cast(x, tf.int64), tf.maximum(x, y)],
           feeds, exact=True)


def rows(c: Bench) -> None:
    x = tf.placeholder(tf.float32, [None, None])
    mean, variance = tf.nn.moments(x, [1], keep_dims=True)
    fetches = [tf.nn.softmax(x), tf.nn.log_softmax(x), (x - mean) * tf.rsqrt(variance + 1e-5)]
    for shape in ((c.n(4096, 9), 1000), (c.n(300, 3), 77), (c.n(16, 1), c.n(32768, 4100))):
        c.both(fetches, {x: c.floats(*shape)}, runs=2)


def folds(c: Bench) -> None:
    x = tf.placeholder(tf.float32, [None, None])
    i = tf.cast(x * 100, tf.int32)
    for shape in c.few((c.n(1111, 70), c.n(2049, 130)), (3, 200_001), (200_001, 3)):
        feeds = {x: c.floats(*shape)}
        c.both([tf.reduce_sum(x * x), tf.reduce_sum(x * x, 0), tf.reduce_mean(x * x, 1), tf.cumsum(tf.abs(x), 1)], feeds, runs=2)
        c.both([tf.reduce_max(x, 0), tf.reduce_min(x), tf.argmax(x, 1), tf.argmin(x, 0), tf.reduce_sum(i, 1), tf.reduce_any(x > 3, 1)],
               feeds, runs=2, exact=True)


def moved(c: Bench) -> None:
    x = tf.placeholder(tf.float32, [None, None, 33])
    ids = tf.placeholder(tf.int32, [None])
    flat = tf.reshape(x, [-1, 33])
    fetches = [tf.transpose(x, [2, 1, 0]), tf.transpose(x, [1, 0, 2]), tf.transpose(flat), tf.concat([flat, flat[:, ::-1]], 1),
               tf.pad(x, [[1, 0], [0, 2], [3, 1]]), tf.gather(flat, ids), tf.one_hot(ids, 50), tf.tile(flat, [2, 1])]
    shape = c.n(130, 5), c.n(257, 18)
    c.both(fetches, {x: c.floats(*shape, 33), ids: c.rng.integers(0, shape[0] * shape[1], c.n(5000, 70))}, exact=True)


def scattered(c: Bench) -> None:
    n, groups = c.n(100_000, 300), c.n(300, 20)
    ids, x = tf.placeholder(tf.int32, [n]), tf.placeholder(tf.float32, [n, 9])
    v = tf.get_variable("counts", initializer=tf.zeros([groups], tf.int32))
    feeds = {ids: c.rng.integers(0, groups, n), x: c.floats(n, 9)}
    c.both([tf.unsorted_segment_sum(tf.cast(x * 100, tf.int32), ids, groups), tf.unsorted_segment_max(x, ids, groups),
            tf.scatter_add(v, ids, tf.ones([n], tf.int32))], feeds, exact=True)
    c.both(tf.unsorted_segment_sum(x, ids, groups), feeds, rtol=1e-5)
    with flags.override(deterministic=1):
        first, *others = c.on_gpu(tf.unsorted_segment_sum(x + 1, ids, groups), feeds)
    for other in others:
        same("sums in a fixed order, run after run", other, first, 0)


def random(c: Bench) -> None:
    """The bits of the CPU."""
    tf.set_random_seed(5)
    n = c.n(1_000_001, 1001)
    whole = tf.random_uniform([n], maxval=77, dtype=tf.int32)
    c.both([tf.random_uniform([n]), whole, tf.random_uniform([n], dtype=tf.float64)], exact=True)
    c.both([tf.random_normal([n]), tf.truncated_normal([n])], rtol=1e-5)


def loops(c: Bench) -> None:
    x = tf.placeholder(tf.float32, [c.n(512, 8), 16])
    w = tf.constant(c.floats(16, 16) * 0.2)
    written_out = tf.while_loop(lambda i, h: i < 7, lambda i, h: (i + 1, tf.tanh(tf.matmul(h, w) + x)), [0, x])[1]
    by_data = tf.while_loop(lambda h: tf.reduce_max(tf.abs(h)) > 0.3, lambda h: h * 0.7, [x])
    chosen = tf.cond(tf.reduce_sum(x) > 0, lambda: tf.exp(x), lambda: -x)
    c.both([written_out, tf.gradients(tf.reduce_sum(written_out), x)[0], by_data, chosen], {x: c.floats(c.n(512, 8), 16)})


# ---------------------------------------------------------------- products and convolutions


def products(c: Bench) -> None:
    """Ragged ones, of all transpositions, batched; each dtype that has tiles of its own."""
    for m, n, k in c.few((c.n(1029, 70), c.n(517, 66), c.n(771, 40)), (3, 2000, 4096)):
        a, b = tf.placeholder(tf.float32, [m, k]), tf.placeholder(tf.float32, [k, n])
        feeds = {a: c.floats(m, k), b: c.floats(k, n)}
        turned = tf.matmul(tf.transpose(a), b, transpose_a=True), tf.matmul(a, tf.transpose(b), transpose_b=True)
        c.both([tf.nn.relu(tf.matmul(a, b) + 1.0), *turned], feeds, rtol=1e-5)
        for dtype, rtol in c.few((tf.bfloat16, 8e-3), (tf.float16, 2e-3), (tf.float64, 1e-13)):
            c.both(tf.cast(tf.matmul(tf.cast(a, dtype), tf.cast(b, dtype)), tf.float64), feeds, runs=2, rtol=rtol)
        with flags.override(tf32=1):
            c.both(tf.matmul(a, b) * 2.0, feeds, runs=2, rtol=2e-3)
    p, q = c.floats(c.n(24, 3), 33, 40), c.floats(c.n(24, 3), 40, 17)
    c.both(tf.matmul(tf.constant(p), tf.placeholder_with_default(q, q.shape)))


def convolutions(c: Bench) -> None:
    batch, side, width = c.n(8, 2), c.n(28, 7), c.n(32, 5)
    x, w = tf.placeholder(tf.float32, [batch, side, side, 3]), tf.placeholder(tf.float32, [3, 3, 3, width])
    feeds = {x: c.floats(batch, side, side, 3), w: c.floats(3, 3, 3, width)}
    for stride, dtype, rtol in c.few((2, tf.float32, 1e-5), (1, tf.float32, 1e-5), (1, tf.bfloat16, 2e-2)):
        y = tf.nn.conv2d(tf.cast(x, dtype), tf.cast(w, dtype), [1, stride, stride, 1], "SAME")
        loss = tf.reduce_sum(tf.cast(y, tf.float32) * 0.5)
        c.both([tf.cast(y, tf.float32), *tf.gradients(loss, [x, w])], feeds, runs=2, rtol=rtol)
    pooled = tf.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME")
    c.both([pooled, tf.gradients(pooled, x)[0]], {x: feeds[x]}, runs=2)


def generated(step: Callable[[Bench], None]) -> Callable[[Bench], None]:
    """The step without libraries."""
    def run(c: Bench) -> None:
        with flags.override(cuda_libraries=0):
            step(c)
    return run


def by_libraries(c: Bench) -> str:
    from graphflow.runtime.cuda import libraries

    why = [libraries.why_not(name) for name in libraries.NAMES]
    if all(why):
        raise Skipped(why[0])
    asked: list[str] = []
    for step in (products, convolutions):
        with tf.Graph().as_default(), _noting_calls(asked):
            step(c)
    if not asked:
        raise Differs("neither cuBLASLt nor cuDNN has been called")
    kinds = list(dict.fromkeys(re.sub(r" \d.*", "", label) for label in asked))
    return f"{len(set(asked))} calls of {', '.join(kinds)}" + "".join(f"; {reason}" for reason in why if reason)


@contextmanager
def _noting_calls(asked: list[str]) -> Iterator[None]:
    """Notes the labels of calls that plans make ready."""
    from graphflow.runtime.cuda import libraries

    real = libraries.prepare

    def prepare(*args: Any, **more: Any) -> Any:
        call = real(*args, **more)
        asked.append(call.label)
        return call

    libraries.prepare = prepare
    try:
        yield
    finally:
        libraries.prepare = real


# ---------------------------------------------------------------- programs


def training(c: Bench) -> None:
    """Losses and variables of some steps of a small network beside the CPU's."""
    batch, side = c.n(32, 4), c.n(16, 6)
    x, labels = tf.placeholder(tf.float32, [batch, side, side, 1]), tf.placeholder(tf.int32, [batch])

    def weights(name: str, *shape: int) -> Any:
        return tf.get_variable(name, initializer=(c.floats(*shape) * (2.0 / np.prod(shape[:-1])) ** 0.5).astype(np.float32))

    h = tf.nn.relu(tf.nn.conv2d(x, weights("filters", 3, 3, 1, 8), [1, 1, 1, 1], "SAME") + weights("shift", 8))
    h = tf.reshape(tf.nn.max_pool(h, [1, 2, 2, 1], [1, 2, 2, 1], "SAME"), [batch, -1])
    logits = tf.matmul(h, weights("dense", int(h.shape[1]), 10)) + weights("bias", 10)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    variables = tf.trainable_variables()
    step = tf.train.MomentumOptimizer(0.05, 0.9).minimize(loss)
    with tf.control_dependencies([step]):
        after = [tf.identity(v.read_value()) for v in variables]
    feeds = {x: c.floats(batch, side, side, 1), labels: c.rng.integers(0, 10, batch)}
    c.both([loss, *after], feeds, runs=c.n(10, 4), rtol=1e-4)


def errors(c: Bench) -> None:
    """An index out of range raises what it raises on the CPU, no variable changes, and the next run is right."""
    ids = tf.placeholder(tf.int32, [6])
    start = c.floats(50)
    v = tf.get_variable("v", initializer=start)
    step = tf.assign_add(v, tf.reduce_sum(tf.gather(v, ids)) * tf.ones([50]))
    good, said, values = np.arange(6), [], start
    for config in (None, ON_CPU):
        with tf.Session(config=config) as sess:
            sess.run(v.initializer)
            for _ in range(3):
                try:
                    sess.run(step.op, {ids: good + 45})
                    raise Differs("an index of 50 in 50 elements raised nothing")
                except tf.errors.InvalidArgumentError as error:
                    said.append(str(error))
                same("the variable after an error", sess.run(v), values, 1e-5)
                sess.run(step.op, {ids: good})
                values = values + values[:6].sum()
                same("the variable after the next run", sess.run(v), values, 1e-5)
        values = start
    if len(set(said)) != 1:
        raise Differs(f"the GPU says {said[0]!r}, the CPU {said[-1]!r}")


def too_much(c: Bench) -> None:
    """More memory than there is: an error that says so, and the device goes on."""
    device, (free, total) = c.device, c.device.driver.memory(c.device.ordinal)
    try:
        device.allocate(total + total // 2)
        raise Differs(f"{total + total // 2} bytes could be had of {total}")
    except tf.errors.ResourceExhaustedError as error:
        if "no memory left" not in error.message:
            raise Differs(f"the error says {error.message!r}") from error
    n = c.n(free // 2, 1 << 20)
    part = device.allocate(n)
    device.fill(part, 3, n)
    device.synchronize("half of the memory")
    device.free(part)
    device.trim()
    one_kernel(c)


def threads(c: Bench) -> None:
    """Several threads with sessions of their own, and one session of several threads."""
    x = tf.placeholder(tf.float32, [None, 64])
    y = tf.nn.softmax(x * 2.0)
    wanted: dict[int, np.ndarray] = {}
    given = {k: c.floats(k, 64) for k in range(2, 6)}
    with tf.Session(config=ON_CPU) as cpu, flags.override(interpret=1):
        wanted = {k: cpu.run(y, {x: a}) for k, a in given.items()}
    graph, failed = tf.get_default_graph(), []

    def work(k: int, shared: Any) -> None:
        try:
            with graph.as_default(), tf.Session() as own:
                for _ in range(c.n(50, 4)):
                    for sess in (shared, own):
                        same(f"rows of {k}, beside other threads", sess.run(y, {x: given[k]}), wanted[k], 1e-5)
        except Exception as error:
            failed.append(error)

    with tf.Session() as shared:
        workers = [threading.Thread(target=work, args=(k, shared)) for k in given]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
    if failed:
        raise failed[0]


def exchanged(c: Bench) -> None:
    """Results left on the GPU, taken by another program's interfaces and fed again, without a copy on the way."""
    n = c.n(1_000_000, 1000)
    x = tf.placeholder(tf.float32, [n])
    y = x * 2.0 + 1.0
    values = c.floats(n)
    with tf.Session() as sess:
        for _ in range(3):
            there = sess.run_on_device(y, {x: values})
            same("a result on the GPU", there.numpy(), values * np.float32(2) + np.float32(1), 1e-6)
            for given in (SimpleNamespace(__dlpack__=there.__dlpack__, __dlpack_device__=there.__dlpack_device__),
                          SimpleNamespace(__cuda_array_interface__=there.__cuda_array_interface__)):
                back = DeviceArray.of(given)
                if back.address != there.address:
                    raise Differs("an array of this GPU came back at another address")
                same("fed again", sess.run(y, {x: back}), there.numpy() * np.float32(2) + np.float32(1), 1e-6)


# ---------------------------------------------------------------- speed


def bandwidth(c: Bench) -> str:
    """GB/s of copies on the device (read and written) and between host and device, and of a softmax."""
    device, n = c.device, c.n(min(1 << 30, c.device.properties.memory // 16), 1 << 16)
    a, b = device.allocate(n), device.allocate(n)
    host = device.pinned(c.n(256 << 20, 1 << 16), np.uint8)
    device.fill(a, 1, n)
    host[:] = 2
    ways = {"device": (2 * n, lambda: device.copy(b, a, n)), "to it": (host.nbytes, lambda: device.copy_in(a, host)),
            "from it": (host.nbytes, lambda: device.copy_out(host, b))}
    device.copy(b, a, n)
    rates = {name: nbytes / min(_seconds(device, queue) for _ in range(c.n(5, 1))) / 1e9 for name, (nbytes, queue) in ways.items()}
    device.synchronize("copies")
    device.free(a)
    device.free(b)
    told = ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
    most = device.properties.bandwidth / 1e9
    return "times mean nothing here" if c.emulated else f"GB/s of copies: {told}" + (f" (memory {most:,.0f} by its clock)" if most else "")


def _seconds(device: Device, queue: Callable[[], None]) -> float:
    with device.timed() as seconds:
        queue()
    return seconds()


def tiny(c: Bench) -> str:
    """What a run of almost nothing costs."""
    x = tf.placeholder(tf.float32, [16])
    values, times = c.floats(16), []
    with tf.Session() as sess, tf.device("/gpu:0"):
        run = sess.make_callable(tf.nn.softmax(x) + 1.0, [x])
        for _ in range(c.n(2000, 5)):
            start = time.perf_counter()
            run(values)
            times.append(time.perf_counter() - start)
    low, middle = (1e6 * float(np.quantile(times, q)) for q in (0.1, 0.5))
    return "times mean nothing here" if c.emulated else f"{middle:.1f} us a run in the middle, {low:.1f} at best"


STEPS = (
    Step("one kernel: compiled here, linked by the driver, launched", one_kernel),
    Step("copies in and out, page-locked and not, and fills", copies),
    Step("a recorded graph, replayed on new values", a_graph),
    Step("elementwise: float32, float64, 16 bits, integers, bool", elementwise),
    Step("rows: softmax, log-softmax, normalisation", rows),
    Step("folds: sums, extremes, running sums, along each axis", folds),
    Step("moves: transpositions, concatenation, padding, gathers", moved),
    Step("scatters: atomics, and in a fixed order", scattered),
    Step("random numbers: the bits of the CPU", random),
    Step("branches and loops", loops),
    Step("products by generated tiles: float32, TF32, bfloat16, float16, float64", generated(products)),
    Step("convolutions, their gradients, pooling, generated", generated(convolutions)),
    Step("products and convolutions by cuBLASLt and cuDNN", by_libraries),
    Step("training: losses and variables of each step", training),
    Step("errors: an index out of range changes nothing", errors),
    Step("more memory than there is", too_much),
    Step("threads, with a session each and with one for all", threads),
    Step("exchange: DLPack and __cuda_array_interface__", exchanged),
    Step("bandwidth of copies", bandwidth),
    Step("a tiny run", tiny),
)


# ---------------------------------------------------------------- the command


def main(given: Any, patience: float = PATIENCE) -> int:
    """The exit status: 0 when all is right, 1 when a step failed, 2 when there is no GPU."""
    why = "" if given.emulated else missing()
    if why:
        print(f"No GPU can be used: {why}", "`python -m graphflow gpu --emulated` runs the same steps on an emulator.", sep="\n",
              file=sys.stderr)
        return 2
    with emulated_gpu() if given.emulated else nullcontext():
        if not given.after:
            print("\n".join(about()), flush=True)
        return climb(given, Bench(given.emulated, patience))


def missing() -> str:
    """Why no GPU can be used, "" if one can."""
    return drivers.why_not() or ("" if devices_of.devices() else "the driver finds no device.")


def about() -> list[str]:
    """What there is."""
    lines = []
    for d in devices_of.devices():
        p = d.properties
        lines.append(f"{d.name}, compute capability {p.capability[0]}.{p.capability[1]}, {p.multiprocessors} multiprocessors, "
                     f"{p.memory / 2**30:.1f} GiB, PCI {p.pci_bus_id}, {p.uuid}")
    from graphflow.runtime.cuda import libraries

    lines.append(f"driver: {drivers.current().name}; Python {sys.version.split()[0]}, NumPy {np.__version__}, GraphFlow {tf.__version__}")
    return lines + [f"{label}: {libraries.why_not(name) or 'there'}" for name, label in libraries.NAMES.items()]


def climb(given: Any, bench: Bench) -> int:
    """Runs the steps; after one that loses the device, the others are left to a new process."""
    chosen = [(k, s) for k, s in enumerate(STEPS, 1) if k > given.after and (not given.only or any(t in s.name for t in given.only))]
    if not chosen and not given.after:
        print(f"no step has {' or '.join(map(repr, given.only))} in its name; there are:")
        print(*[f"  {s.name}" for s in STEPS], sep="\n", flush=True)
        return 2
    verdicts = []
    for number, step in chosen:
        verdicts.append(report(number, step, bench))
        if bench.device.lost and number < chosen[-1][0]:
            print("The device is lost for this process; the other steps run in a new one.", flush=True)
            return max(1, again(given, number))
    bad, out = verdicts.count("FAILED"), verdicts.count("left out")
    print(f"{verdicts.count('ok')} of {len(chosen)} steps are as they should be" + (f", {out} left out" if out else "")
          + ("." if not bad else "; above is what is not."), flush=True)
    return int(bad > 0)


def again(given: Any, number: int) -> int:
    """The steps after one, in a process of its own."""
    command = [sys.executable, "-m", "graphflow", "gpu", "--after", str(number), *["--emulated"] * given.emulated,
               *(["--only", *given.only] if given.only else [])]
    return subprocess.run(command, check=False).returncode


def report(number: int, step: Step, bench: Bench) -> str:
    """Runs a step and prints a line, and what is wrong if it fails.  Its verdict: "ok", "left out" or "FAILED"."""
    print(f"{number:2}  {step.name} ... ", end="", flush=True)
    start, wrong = time.perf_counter(), ""
    try:
        with tf.Graph().as_default(), _watched(bench.patience):
            verdict, told = "ok", step.run(bench) or ""
    except Skipped as reason:
        verdict, told = "left out", str(reason)
    except Exception as error:
        verdict, told = "FAILED", ""
        short = isinstance(error, Differs)
        wrong = "\n".join([str(error), *getattr(error, "__notes__", [])]) if short else "".join(traceback.format_exception(error))
    print(f"{verdict}, {time.perf_counter() - start:.2f} s" + (f": {told}" if told else ""), flush=True)
    if wrong:
        print(textwrap.indent(wrong.rstrip(), " " * 6), flush=True)
    return verdict


@contextmanager
def _watched(patience: float) -> Iterator[None]:
    """Ends the process with the stacks of its threads when the block takes too long: a kernel that hangs cannot be interrupted."""
    if patience:
        faulthandler.dump_traceback_later(patience, exit=True)
    try:
        yield
    finally:
        if patience:
            faulthandler.cancel_dump_traceback_later()
