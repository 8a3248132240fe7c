"""The PTX emulator: instructions against values computed by hand, each defect provoked, counters against counts by hand."""
from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from ptx_cases import CASES, HEAD, Case, same

from graphflow.testing import emulated_gpu, ptx

SCALE = HEAD + """
.visible .entry scale(.param .u64 .ptr .align 4 a, .param .u64 b, .param .u32 n, .param .f32 s)
{
 .reg .pred %p<2>; .reg .b32 %r<8>; .reg .b64 %rd<8>;
 ld.param.b64 %rd1, [a]; ld.param.b64 %rd2, [b]; ld.param.b32 %r1, [n]; ld.param.b32 %r2, [s];
 mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ntid.x; mov.u32 %r5, %tid.x; mad.lo.s32 %r6, %r3, %r4, %r5;
 setp.ge.s32 %p1, %r6, %r1;
 @%p1 bra DONE;
 mul.wide.s32 %rd3, %r6, 4; add.s64 %rd4, %rd1, %rd3; add.s64 %rd5, %rd2, %rd3;
 ld.global.b32 %r7, [%rd4]; mul.rn.f32 %r7, %r7, %r2; st.global.b32 [%rd5], %r7;
DONE: ret;
}
"""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_an_instruction(case: Case):
    same(case.run(), case.values())


def assembles(text: str, path, arch: str = "sm_90") -> None:
    """NVIDIA's assembler takes the text; skipped where it is not installed."""
    tool = shutil.which("ptxas") or shutil.which("/usr/local/bin/ptxas")
    if tool is None:
        pytest.skip("ptxas is not installed")
    (path / "kernel.ptx").write_text(text)
    done = subprocess.run([tool, f"-arch={arch}", "-O0", str(path / "kernel.ptx"), "-o", str(path / "kernel.cubin")], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_assembler_accepts_every_case(tmp_path):
    assembles(HEAD + "\n".join(case.text(f"case{i}") for i, case in enumerate(CASES.values())) + SCALE.removeprefix(HEAD), tmp_path)


def test_a_kernel_on_arrays():
    x, out = np.arange(1000, dtype=np.float32), np.empty(1000, np.float32)
    counters = ptx.run(SCALE, 4, 256, [x, ptx.Out(out), 1000, 2.0])
    np.testing.assert_array_equal(out, 2 * x)
    assert (counters.global_load_sectors, counters.global_store_sectors, counters.coalesced) == (125, 125, True)


def test_the_driver_records_and_replays():
    x, out = np.arange(1000, dtype=np.float32), np.zeros(1000, np.float32)
    with emulated_gpu() as driver:
        driver.use(0)
        kernel = driver.function(driver.load(driver.link(SCALE)), "scale")
        a, b, stream = driver.allocate(4000), driver.allocate(4000), driver.stream()
        driver.begin_capture(stream)
        driver.copy_in(a, x.ctypes.data, 4000, stream)
        driver.launch(driver.prepare(kernel, "ppif", [a, b, 1000, 3.0]), (4, 1, 1), (256, 1, 1), 0, stream)
        driver.copy_out(out.ctypes.data, b, 4000, stream)
        graph = driver.end_capture(stream)
        assert not out.any()
        driver.launch_graph(graph, stream)
        driver.synchronize(stream)
    np.testing.assert_array_equal(out, 3 * x)
