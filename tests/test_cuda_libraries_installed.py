"""The real cuBLASLt and cuDNN, where `graphflow[cuda-libs]` is installed: prototypes, attributes, and plans for a GPU that is not there.

cuDNN opens the driver's libcuda.so.1 by name even to plan.  Without one, an empty stand-in is compiled and put on the search path of
another process, which does the asking.
"""
from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from graphflow.codegen.cuda.library_calls import Matmul, View
from graphflow.runtime.cuda import driver, libraries
from graphflow.runtime.cuda.libraries import cublaslt, cudnn, loading
from graphflow.types import float32

HERE = Path(__file__).parent


def opened(name: str, module):
    try:
        return loading.library(name, module.PROTOTYPES)
    except libraries.Missing as error:
        pytest.skip(error.reason)


def test_descriptors_of_cublaslt_keep_what_is_put_into_them():
    """Every attribute that is set, by number, size and value."""
    c = opened("cublaslt", cublaslt)
    lt = cublaslt.CublasLt.__new__(cublaslt.CublasLt)  # without a handle, which needs a device
    lt.c, lt.version = c, cublaslt.version(c)
    assert int(lt.version.split(".")[0]) >= 12

    def kept(kind: str, descriptor: int, attribute: int, value) -> None:
        lt.put(kind, descriptor, attribute, value)
        got, size = type(value)(), ctypes.c_size_t()
        get = getattr(c, f"cublasLt{kind}GetAttribute")
        get.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        assert get(descriptor, attribute, ctypes.addressof(got), ctypes.sizeof(got), ctypes.addressof(size)) == 0
        assert size.value == ctypes.sizeof(value) and got.value == value.value
    product = lt.made("cublasLtMatmulDescCreate", cublaslt.COMPUTE_32F, cublaslt.DATA["float32"])
    for attribute, value in ((cublaslt.TRANSA, ctypes.c_int32(1)), (cublaslt.TRANSB, ctypes.c_int32(1)),
                             (cublaslt.BIAS, ctypes.c_void_p(0x7f00)), (cublaslt.BIAS_STRIDE, ctypes.c_int64(0)),
                             (cublaslt.AUX, ctypes.c_void_p(0x7f00)), (cublaslt.AUX_LD, ctypes.c_int64(128)),
                             *[(cublaslt.EPILOGUE, ctypes.c_uint32(e.number)) for e in cublaslt.EPILOGUES.values()]):
        kept("MatmulDesc", product, attribute, value)
    for dtype in cublaslt.DATA.values():
        layout = lt.made("cublasLtMatrixLayoutCreate", dtype, 4096, 1024, 4100)
        kept("MatrixLayout", layout, cublaslt.BATCH_COUNT, ctypes.c_int32(3))
        kept("MatrixLayout", layout, cublaslt.BATCH_STRIDE, ctypes.c_int64(1 << 40))
        lt.run("cublasLtMatrixLayoutDestroy", layout)
    preference = lt.made("cublasLtMatmulPreferenceCreate")
    kept("MatmulPreference", preference, cublaslt.WORKSPACE_BYTES, ctypes.c_uint64(32 << 20))
    kept("MatmulPreference", preference, cublaslt.REDUCTIONS, ctypes.c_uint32(cublaslt.IN_COMPUTE_TYPE))
    for attribute in cublaslt.ALIGNMENTS:
        kept("MatmulPreference", preference, attribute, ctypes.c_uint32(16))
    with pytest.raises(libraries.LibraryError, match=r"cuBLASLt: cublasLtMatmulDescSetAttribute: .*\(status 7\)"):
        lt.put("MatmulDesc", product, cublaslt.TRANSA, ctypes.c_int64(1))  # of the wrong size
    assert ctypes.sizeof(cublaslt.Result) == 96


def test_a_product_without_a_device_is_refused_with_a_reason():
    opened("cublaslt", cublaslt)
    v = View(None, float32, (4, 4), (4, 1))
    if libraries.available("cublaslt"):
        pytest.skip("there is a device")
    with pytest.raises(libraries.Missing) as missing:
        libraries.prepare(Matmul(v, v, v, float32))
    assert missing.value.reason == driver.why_not() != ""


# ---------------------------------------------------------------- plans of cuDNN

H200 = {  # what cuDNN 9.28 asks of a device
    "version": 1, "deviceId": 0, "deviceVer": 900, "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64],
    "regsPerBlock": 65536, "multiProcessorCount": 132, "warpSize": 32, "maxSharedMemoryPerBlock": 49152,
    "maxSharedMemoryPerBlockOptin": 232448, "reservedSharedMemoryPerBlock": 1024, "oversizedSharedMemoryPerBlock": 0,
    "maxRegistersPerSM": 65536, "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "pciDeviceId": 9013,
    "isTccDriver": 0, "supportCoopLaunch": 1, "smClockRateKHz": 1980000, "memClockRateKHz": 3201000, "memoryBusWidth": 6144,
    "l2CacheSize": 62914560, "deviceName": "NVIDIA H200", "driverVer": 13000, "cudaDeviceId": 0, "totalGlobalMem": 150754820096}
# What cuDNN's libraries want of the driver; none of it is called while planning.
DRIVER = """cuInit cuDriverGetVersion cuGetErrorString cuGetErrorName cuGetProcAddress_v2 cuGetExportTable cuDeviceGet cuDeviceGetCount
    cuDeviceGetAttribute cuCtxGetCurrent cuCtxGetLimit cuCtxPopCurrent cuCtxPushCurrent cuStreamGetCtx cuModuleGetFunction cuModuleLoadData
    cuModuleUnload cuTensorMapEncodeIm2col cuTensorMapEncodeTiled cuLinkCreate cuLinkAddData cuLinkComplete cuLinkDestroy cuLaunchKernel
    cuLaunchCooperativeKernel cuLaunchKernelEx cuLibraryLoadData cuLibraryLoadFromFile cuLibraryGetKernel cuLibraryUnload
    cuKernelSetAttribute cuKernelGetAttribute cuKernelGetFunction cuOccupancyMaxPotentialClusterSize""".split()
ASKED = """
import json, sys
import graphflow as tf
from dataclasses import replace
from test_cuda_library_calls import described, ph
from graphflow.flags import flags
from graphflow.runtime.cuda import libraries
from graphflow.runtime.cuda.libraries import cudnn, loading
device = json.loads(sys.argv[1])
device["cudnnVersion"] = loading.library("cudnn", cudnn.PROTOTYPES).cudnnGetVersion()
device = json.dumps(device)
answers = []
RESNET = [(224, 3, 64, 7, 2), (56, 64, 64, 3, 1), (56, 128, 128, 3, 2), (28, 256, 256, 3, 2), (14, 512, 512, 3, 2), (7, 512, 512, 3, 1)]
MNIST = [(28, 1, 32, 5, 1), (14, 32, 64, 5, 1)]
for dtype in (tf.float32, tf.bfloat16, tf.float16):
    for format in ("NHWC", "NCHW"):
        for size, c, k, taps, stride in RESNET + MNIST:
            nhwc = format == "NHWC"
            x = ph(*((32, size, size, c) if nhwc else (32, c, size, size)), dtype=dtype)
            w = ph(taps, taps, c, k, dtype=dtype)
            y = tf.nn.conv2d(x, w, [1, stride, stride, 1] if nhwc else [1, 1, stride, stride], "SAME", data_format=format)
            dy = ph(*y.shape.as_list(), dtype=dtype)
            forward = described(y)[1]
            all = [forward, replace(forward, epilogue="bias+relu"), *[described(g)[1] for g in tf.gradients(y, [x, w], grad_ys=dy)]]
            answers += [libraries.supports(d, device) for d in all]
x, w = ph(8, 14, 14, 32), ph(3, 3, 32, 1)
answers.append(libraries.supports(described(tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME"))[1], device))
answers.append(libraries.supports(described(tf.nn.conv3d(ph(2, 8, 14, 14, 16), ph(3, 3, 3, 16, 32), [1] * 5, "SAME"))[1], device))
d = described(tf.nn.conv2d(ph(32, 28, 28, 64, dtype=tf.bfloat16), ph(3, 3, 64, 64, dtype=tf.bfloat16), [1] * 4, "SAME"))[1]
looked_for = "bias", "bias+relu", "add+bias", "add+bias+relu"
epilogues = {e: libraries.supports(replace(d, epilogue=e), device).label for e in (*looked_for, "relu")}
with flags.override(tf32=1):
    fast = libraries.supports(described(tf.nn.conv2d(ph(32, 56, 56, 64), ph(3, 3, 64, 64), [1] * 4, "SAME"))[1], device)
print(json.dumps({"reasons": [a.reason for a in answers], "labels": [a.label for a in answers], "tf32": fast.label, "epilogues": epilogues,
                  "bad": libraries.supports(described(tf.nn.conv2d(ph(2, 8, 8, 3), ph(3, 3, 3, 4), [1] * 4, "SAME"))[1], "{}").reason}))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict:
    opened("cudnn", cudnn)
    folder = tmp_path_factory.mktemp("driver")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("neither libcuda.so.1 nor a C compiler for a stand-in")
        source = folder / "driver.c"
        source.write_text("".join(f"int {name}(void) {{ return 3; }}\n" for name in DRIVER))
        subprocess.run([compiler, "-w", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", folder / "libcuda.so.1", source], check=True)
        environment["LD_LIBRARY_PATH"] = str(folder)
    done = subprocess.run([sys.executable, "-c", ASKED, json.dumps(H200)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_cudnn_has_a_plan_for_every_convolution_of_resnet_and_mnist(answers):
    """Forward, with bias and relu, and both gradients, in float32 (without TF32), bfloat16 and float16, in both layouts."""
    assert len(answers["labels"]) == 3 * 2 * 8 * 4 + 2
    refused = [why for label, why in zip(answers["labels"], answers["reasons"]) if not label]
    # In float32 without TF32 there are few: uneven padding channels last, the gradient of an image of 3 channels.
    assert len(refused) <= 16 and all("the engine that takes everything" in why for why in refused)
    assert all("engine" in label for label in answers["labels"][64:])


def test_epilogues_that_are_looked_for_have_plans(answers):
    """And relu alone has none with TF's filters, which is why it is not looked for."""
    assert [e for e, label in answers["epilogues"].items() if not label] == ["relu"]


def test_tensor_cores_are_for_those_who_ask(answers):
    plain = next(x for x in answers["labels"] if x.startswith("cuDNN") and " forward f32 NHWC 32x64x56x56" in x)
    assert " tf32 " in answers["tf32"] and plain.split("engine")[1] != answers["tf32"].split("engine")[1]


def test_a_description_that_says_nothing_is_refused(answers):
    assert answers["bad"].startswith("cuDNN: cudnnBackendFinalize")
