"""Whole programs through the bindings of libcuda: the stand-in in C checks contexts, capture, lifetimes and the order of queues, and has
the PTX emulator run the kernels.  What a program does on it, it does on NVIDIA's, as far as cuda.h says what that does."""
from __future__ import annotations

import fake_cuda
import pytest

import graphflow as tf
from graphflow.flags import flags
from graphflow.testing import gpu_check

cuda, libcuda = fake_cuda.cuda, fake_cuda.libcuda  # fixtures
STEPS = [s for s in gpu_check.STEPS if "cuBLASLt" not in s.name]


@pytest.fixture(autouse=True)
def settings():
    with flags.override(early=0, interpret=0, check=0, debug=0, cuda_libraries=0):
        yield


@pytest.mark.parametrize("step", STEPS, ids=lambda s: s.run.__name__ if s.run.__name__ != "run" else s.name.split()[0])
def test_a_step_of_the_ladder(step, libcuda):
    bench = gpu_check.Bench(emulated=True)
    assert bench.device.driver.name == "CUDA 13.0"
    with tf.Graph().as_default():
        step.run(bench)
    assert libcuda.faults == []
