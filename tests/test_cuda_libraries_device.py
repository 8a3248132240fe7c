"""The cases of test_cuda_libraries.py with memory of a device: an emulated one with the played libraries, and, with `--gpu=real` and
`graphflow[cuda-libs]`, a GPU with NVIDIA's own, where this says whether the manuals were read rightly."""
from __future__ import annotations

import numpy as np
import pytest
import test_cuda_libraries as cases
from test_cuda_library_calls import described, ph

import graphflow as tf
from graphflow import types
from graphflow.runtime.cuda import device as devices
from graphflow.runtime.cuda import driver, libraries
from graphflow.testing import emulated_gpu
from graphflow.testing.libraries import emulated_libraries


class DeviceMachine:
    """What the cases use of a machine, on a device."""

    def __init__(self):
        self.device, = devices.devices()[:1]
        self.device.use()
        self.nbytes: dict[int, int] = {}

    def put(self, values: np.ndarray, dtype: types.DType) -> int:
        array = np.ascontiguousarray(types.bf16_encode(values) if dtype is types.bfloat16 else values.astype(dtype.np))
        address = self.device.allocate(array.nbytes)
        self.device.copy_in(address, array.reshape(-1))
        self.nbytes[address] = array.nbytes
        return address

    def get(self, address: int, dtype: types.DType) -> np.ndarray:
        out = np.empty(self.nbytes[address] // dtype.size, dtype.np)
        self.device.copy_out(out, address)
        self.device.synchronize("a test")
        return types.bf16_decode(out) if dtype is types.bfloat16 else out.astype(np.float64)

    def run(self, call, *addresses, **extra) -> None:
        """Once by itself, which loads what is needed, and once recorded; a result that is added to is put back between."""
        space = {"workspace": self.device.allocate(call.workspace_bytes)} if call.workspace_bytes else {}
        target, before = addresses[2], self.get(addresses[2], types.uint8).astype(np.uint8)
        call.enqueue(self.device.stream, *addresses, **space, **extra)
        self.device.copy_in(target, before)
        with self.device.capture("a library's call") as recording:
            call.enqueue(self.device.stream, *addresses, **space, **extra)
        recording.graph()
        self.device.synchronize("a test")


@pytest.fixture(params=["emulated", "real"])
def machine(request):
    if request.param == "emulated":
        with emulated_gpu() as played, emulated_libraries(played):
            yield DeviceMachine()
        return
    for name in libraries.NAMES:
        if not isinstance(_current(), driver.Libcuda) or not libraries.available(name):
            pytest.skip(driver.why_not() or libraries.why_not(name) or "the GPU is an emulated one")
    yield DeviceMachine()


def _current() -> object:
    return None if driver.why_not() else driver.current()


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        yield


@pytest.mark.parametrize("seed", range(8))
def test_products(machine, seed):
    cases.test_products_of_any_layout(machine, seed)


def test_epilogues_of_products(machine):
    for epilogue in ("bias", "relu", "bias+relu", "gelu_tanh", "bias+gelu_tanh"):
        for dtype in ("float32", "bfloat16", "float16"):
            cases.test_epilogues_for_rows(machine, epilogue, dtype)


def test_gradients_of_layers(machine):
    cases.test_a_layer_and_its_gradient(machine)
    cases.test_gelu_and_its_gradient(machine)
    cases.test_sums_of_operands(machine)


def test_convolutions(machine):
    x, w = ph(2, 8, 9, 8), ph(3, 3, 8, 16)
    y = tf.nn.conv2d(x, w, [1, 2, 2, 1], "SAME")
    for t in (y, *tf.gradients(y, [x, w], grad_ys=ph(*y.shape.as_list()))):
        try:
            _, found, expected = cases.ran(machine, described(t)[1])
        except libraries.Refused as error:  # a real cuDNN may
            assert "no engine" in str(error)
            continue
        cases.close(found, expected, types.float32)


def test_epilogues_of_convolutions(machine):
    for epilogue in ("bias", "bias+relu", "add+bias", "add+bias+relu"):
        for dtype in ("float32", "bfloat16"):
            cases.test_epilogues_of_convolutions(machine, epilogue, dtype)


def test_relu_of_nan(machine):
    """cuDNN is asked to keep NaN."""
    x, w = ph(1, 8, 8, 8), ph(3, 3, 8, 16)
    d = described(tf.nn.conv2d(x, w, [1, 1, 1, 1], "SAME"))[1]
    call = libraries.prepare(cases.replace(d, epilogue="bias+relu"))
    a, b = cases.image_arrays(d)
    a[0] = np.nan
    at = [machine.put(v, types.float32) for v in (a, b, np.zeros(1024))]
    machine.run(call, *at, bias=machine.put(np.zeros(16), types.float32))
    assert np.isnan(machine.get(at[2], types.float32)).sum() == 4 * 16
