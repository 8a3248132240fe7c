"""Device texts become PTX for any GPU, once; what is known is found again without a compiler."""
from __future__ import annotations

import numpy as np
import pytest

from graphflow.codegen import compile as native
from graphflow.codegen.cuda import texts
from graphflow.testing import ptx as emulator

TEXT = """# twice
#: ppi 256
#: packed
def kernel(p0, p1, s0):
    first = (block() * 256 + thread()) * 4
    if first + 4 <= s0:
        for u in unroll(4):
            st_f32(p1, first + u, ld_f32(p0, first + u, 0) + ld_f32(p0, first + u, 0), 1)
"""


@pytest.mark.parametrize("capability, target", [
    ((8, 0), "sm_80"), ((8, 6), "sm_86"), ((8, 8), "sm_87"), ((8, 9), "sm_89"), ((9, 0), "sm_90"), ((10, 0), "sm_90"), ((10, 3), "sm_90"),
    ((12, 1), "sm_90"), ((31, 0), "sm_90")])
def test_every_gpu_has_a_target_that_llvm_and_old_drivers_know(capability, target):
    text = texts.ptx_of(TEXT, capability)
    assert text.startswith(f".version 7.8\n.target {target}\n") and "ld.global.nc.v4.b32" in text and "st.global.v4.b32" in text


def test_gpus_that_are_too_old_are_refused():
    with pytest.raises(ValueError, match="8.0 or newer, got 7.5"):
        texts.ptx_of(TEXT, (7, 5))


def test_a_text_is_compiled_once(monkeypatch):
    source = TEXT.replace("twice", "twice, once")
    first = texts.ptx_of(source, (9, 0))
    monkeypatch.setattr(texts, "_known", {})
    before = dict(texts.stats)
    with native.no_recompile():
        assert texts.ptx_of(source, (9, 0)) == first
        with pytest.raises(RuntimeError, match="the kernel twice, never of a GPU would have to be compiled"):
            texts.ptx_of(TEXT.replace("twice", "twice, never"), (9, 0))
    assert texts.stats == {**before, "found": before["found"] + 1}


def test_parameters_and_threads():
    assert texts.signature(TEXT) == ("ppi", 256) and texts.label(TEXT) == "twice"
    with pytest.raises(ValueError, match="#: kinds threads"):
        texts.signature("# nothing\ndef kernel():\n    pass\n")


def test_values_from_before_a_barrier_are_read_again():
    """Of `noalias` memory LLVM thinks that a barrier does not change it."""
    from graphflow.codegen.cuda import ptx

    text = """# told by a thread
#: pp 64
def kernel(p0, p1):
    x = thread()
    v = ld_f32(p1, block(), 1)
    barrier()
    if x == 0:
        st_f32(p1, block(), v + 1.0, 1)
    barrier()
    st_f32(p0, block() * 64 + x, ld_f32(p1, block(), 1) + v, 0)
"""
    code = ptx.compile_ptx(text)
    assert code.count("ld.global.b32") == 2
    a, out = np.zeros(2, np.float32), np.empty(128, np.float32)
    emulator.run(code, 2, 64, [emulator.Out(out), emulator.InOut(a)])
    assert (out == 1.0).all() and (a == 1.0).all()
    assert ptx.compile_ptx(text.replace("p1, block(), v + 1.0, 1", "p0, block(), v + 1.0, 0")).count("ld.global.nc.b32") == 1
