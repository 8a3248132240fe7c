"""Whole programs through the bindings of libcuda: the stand-in in C checks contexts, capture, lifetimes and the order of queues, and has
the PTX emulator run the kernels.  What a program does on it, it does on NVIDIA's, as far as cuda.h says what that does."""
from __future__ import annotations

import fake_cuda
import numpy as np
import pytest

import graphflow as tf
from graphflow.codegen.cuda import texts
from graphflow.flags import flags
from graphflow.testing import gpu_check, ptx

cuda, libcuda = fake_cuda.cuda, fake_cuda.libcuda  # fixtures
# Those about copies, order, errors and threads; the other steps differ in their kernels, which tests/test_gpu_check.py runs.
STEPS = [s for s in gpu_check.STEPS if s.run in (gpu_check.one_kernel, gpu_check.copies, gpu_check.a_graph, gpu_check.scattered,
         gpu_check.loops, gpu_check.training, gpu_check.errors, gpu_check.too_much, gpu_check.threads, gpu_check.exchanged,
         gpu_check.bandwidth, gpu_check.tiny)]


@pytest.fixture(autouse=True)
def settings():
    with flags.override(early=0, interpret=0, check=0, debug=0, cuda_libraries=0):
        yield


@pytest.mark.parametrize("step", STEPS, ids=lambda s: s.run.__name__)
def test_a_step_of_the_ladder(step, libcuda):
    bench = gpu_check.Bench(emulated=True)
    assert bench.device.driver.name == "CUDA 13.0"
    with tf.Graph().as_default():
        step.run(bench)
    assert libcuda.faults == [] and (libcuda.calls("cuGraphLaunch") or step.run in (gpu_check.one_kernel, gpu_check.copies,
                                                                                    gpu_check.too_much, gpu_check.bandwidth))


def test_a_kernel_that_reads_past_its_memory_is_found(libcuda):
    """The stand-in is as strict as the emulator is: the device is lost, as on a GPU."""
    text = gpu_check.FIRST.replace("ld_f32(p0, i, 0)", "ld_f32(p0, i + 100000000, 0)")
    bench = gpu_check.Bench(emulated=True)
    bench.device.kernel(texts.ptx_of(text, (9, 0)), "kernel", "astray").prepare(
        "ppi", [bench.device.allocate(400), bench.device.allocate(400), 100], (1, 1, 1), (128, 1, 1))()
    with pytest.raises(tf.errors.InternalError, match="LAUNCH_FAILED.*last queued: astray"):
        bench.device.synchronize()
    assert isinstance(libcuda.faults[0], ptx.OutOfBounds) and bench.device.lost


def test_two_gpus_in_turns(libcuda):
    """Each works in its own context, whichever was current on the thread before; arrays cross by the host."""
    libcuda.start("devices=2 memory=60000000")
    x = tf.placeholder(tf.float32, [None, 300])
    made = []
    for k in (0, 1):
        with tf.device(f"/gpu:{k}"):
            v = tf.get_variable(f"v{k}", initializer=np.full([300], float(k), np.float32))
            made.append(tf.assign_add(v, tf.reduce_sum(tf.exp(x - v), 0)))
    rows = np.random.default_rng(0).standard_normal((5, 300)).astype(np.float32)
    wanted = [np.full([300], float(k), np.float32) for k in (0, 1)]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(3):
            for k in (0, 1):
                wanted[k] = wanted[k] + np.exp(rows - wanted[k]).sum(0)
                np.testing.assert_allclose(sess.run(made[k], {x: rows}), wanted[k], rtol=1e-5)
        there = [sess.run_on_device(m, {x: rows}) for m in made]
        assert [a.device.ordinal for a in there] == [0, 1] and libcuda.faults == [] and libcuda.live("context") == 2


@pytest.mark.parametrize("peers", [1, 0])
def test_two_gpus_at_once(libcuda, peers):
    """Towers in one request: a variable and a value cross, each copy in the context and behind the event that it needs."""
    libcuda.start(f"devices=2 memory=60000000 peers={peers}")
    x = tf.placeholder(tf.float32, [8, 300])
    with tf.device("/gpu:0"):
        v = tf.get_variable("v", initializer=np.zeros([300], np.float32))
    sums = []
    for k in (0, 1):
        with tf.device(f"/gpu:{k}"):
            sums.append(tf.reduce_sum(tf.cumsum(tf.tanh(x[4 * k:4 * k + 4] - v), 1), 0))
    with tf.device("/gpu:0"):
        step = [v.assign_add(0.01 * (sums[0] + sums[1])), sums[1]]
    rows = np.random.default_rng(0).standard_normal((8, 300)).astype(np.float32)
    wanted = np.zeros([300], np.float32)
    with tf.Session() as sess:
        sess.run(v.initializer)
        for _ in range(4):
            found = sess.run(step, {x: rows})
            last = np.cumsum(np.tanh(rows - wanted), 1)
            np.testing.assert_allclose(found[1], last[4:].sum(0), rtol=1e-4, atol=1e-3)
            wanted = wanted + 0.01 * last.sum(0)
            np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(sess.run(v), wanted, rtol=1e-4, atol=1e-4)
    assert libcuda.faults == [] and libcuda.calls("cuCtxEnablePeerAccess") == 2 * peers
    # a sum a run, and the variable when it has changed
    assert libcuda.calls("cuMemcpyPeerAsync") == 4 + 3 and libcuda.calls("cuGraphLaunch") >= 3
