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


# Frames for kernels of many threads ---------------------------------------------------------------------------------------------------
def kernel(body: str, arrays: str = "a", registers: str = "", before: str = "") -> str:
    """A kernel whose parameters are pointers %a, %b, ... (already global); %t: thread, %i: thread of the grid, %r, %q, %f, %p registers."""
    params = ", ".join(f".param .u64 in_{n}" for n in arrays)
    loads = "\n".join(f".reg .b64 %{n}; ld.param.u64 %{n}, [in_{n}];" for n in arrays)
    return f"""{HEAD}{before}
.visible .entry kernel({params})
{{
 .reg .pred %p<8>; .reg .b16 %h<8>; .reg .b32 %r<32>; .reg .b64 %q<16>; .reg .b32 %t; .reg .b32 %i; .reg .b64 %i4; .reg .b64 %t4; {registers}
 {loads}
 mov.u32 %t, %tid.x; mov.u32 %r31, %ctaid.x; mov.u32 %r30, %ntid.x; mad.lo.u32 %i, %r31, %r30, %t;
 mul.wide.u32 %i4, %i, 4; mul.wide.u32 %t4, %t, 4;
{body}
 ret;
}}
"""


STORE = "add.u64 %q15, %a, %i4; st.global.b32 [%q15], %r0;"


def stored(body: str, threads: int = 32, blocks: int = 1, **options) -> np.ndarray:
    """What each thread of a kernel leaves in %r0."""
    out = np.empty(threads * blocks, np.uint32)
    before = {k: options.pop(k) for k in ("registers", "before") if k in options}
    ptx.run(kernel(body + STORE, **before), blocks, threads, [ptx.Out(out)], **options)
    return out


# Warps -------------------------------------------------------------------------------------------------------------------------------
LANE = np.arange(32)


@pytest.mark.parametrize(("mode", "b", "c", "expected"), [
    ("bfly", "1", "31", LANE ^ 1), ("bfly", "16", "31", LANE ^ 16), ("down", "1", "31", np.minimum(LANE + 1, 31)),
    ("down", "4", "31", np.where(LANE + 4 < 32, LANE + 4, LANE)), ("up", "1", "0", np.maximum(LANE - 1, 0)),
    ("up", "2", "0", np.where(LANE >= 2, LANE - 2, LANE)), ("idx", "5", "31", np.full(32, 5)),
    # segments of 8 lanes: the mask 24 in bits 8 to 12, the clamp below
    ("down", "1", "6175", np.where(LANE % 8 < 7, LANE + 1, LANE)), ("idx", "2", "6175", LANE // 8 * 8 + 2),
    ("up", "3", "6144", np.where(LANE % 8 >= 3, LANE - 3, LANE)), ("bfly", "8", "6175", np.where(LANE & 8, LANE ^ 8, LANE)), ("bfly", "4", "6175", LANE ^ 4),
    ("idx", "%r9", "31", 31 - LANE), ("down", "%r10", "31", np.where(LANE % 3 + LANE < 32, LANE % 3 + LANE, LANE))])
def test_shuffles(mode, b, c, expected):
    inside = "selp.b32 %r8, 1000, 0, %p1; add.s32 %r0, %r1, %r8;"
    got = stored(f"sub.s32 %r9, 31, %t; rem.u32 %r10, %t, 3; shfl.sync.{mode}.b32 %r1|%p1, %t, {b}, {c}, -1; {inside}")
    valid = {"down": LANE + (LANE % 3 if b == "%r10" else int(b) if b.isdigit() else 0) <= (LANE | 7 if c == "6175" else 31),
             "up": LANE - (int(b) if b.isdigit() else 0) >= (LANE // 8 * 8 if c == "6144" else 0)}
    flag = valid.get(mode, (LANE ^ 8) <= (LANE | 7) if (b, c) == ("8", "6175") else np.ones(32, bool))
    np.testing.assert_array_equal(got, expected + 1000 * flag)


def test_votes():
    less = "setp.lt.u32 %p1, %t, 5;"
    assert (stored(less + "vote.sync.ballot.b32 %r0, %p1, -1;") == 31).all()
    assert (stored(less + "vote.sync.ballot.b32 %r0, !%p1, 0xFF;")[:8] == 0xE0).all()
    for mode, expected in (("any", 1), ("all", 0), ("uni", 0)):
        assert (stored(less + f"vote.sync.{mode}.pred %p2, %p1, -1; selp.b32 %r0, 1, 0, %p2;") == expected).all()
    # a warp by itself: in the second one no lane is less
    np.testing.assert_array_equal(stored(less + "vote.sync.ballot.b32 %r0, %p1, -1;", 64), np.repeat([31, 0], 32))


def test_warp_reductions_and_matches():
    assert (stored("redux.sync.add.s32 %r0, %t, -1;") == 496).all()
    assert (stored("sub.s32 %r1, 3, %t; redux.sync.min.s32 %r0, %r1, -1;") == np.uint32(2 ** 32 - 28)).all()
    assert (stored("redux.sync.or.b32 %r0, %t, -1;") == 31).all()
    np.testing.assert_array_equal(stored("and.b32 %r1, %t, 1; match.any.sync.b32 %r0, %r1, -1;"), np.where(LANE % 2, 0xAAAAAAAA, 0x55555555))


def test_lanes_meet_again_at_a_warp_instruction():
    """Half of the lanes take a longer way to the same shuffle."""
    body = """and.b32 %r1, %t, 1; setp.eq.u32 %p1, %r1, 0; mov.b32 %r2, %t; @%p1 bra FAR;
 BACK: bar.warp.sync -1; shfl.sync.bfly.b32 %r0, %r2, 1, 31, -1; bra.uni END;
 FAR: add.u32 %r2, %r2, 100; bra.uni BACK;
 END: """
    np.testing.assert_array_equal(stored(body), np.where(LANE % 2, (LANE ^ 1) + 100, LANE ^ 1))


def test_active_lanes():
    got = stored("mov.b32 %r0, 9; setp.lt.u32 %p1, %t, 3; @!%p1 bra L; activemask.b32 %r0; L: ")
    np.testing.assert_array_equal(got, np.where(LANE < 3, 7, 9))
    assert (stored("activemask.b32 %r0;", 40) == np.repeat([0xFFFFFFFF, 0xFF], [32, 8])).all()


def test_special_registers():
    np.testing.assert_array_equal(stored("mov.u32 %r0, %laneid;", 40), np.arange(40) % 32)
    np.testing.assert_array_equal(stored("mov.u32 %r0, %lanemask_lt;"), 2 ** LANE - 1)
    assert (stored("mov.u32 %r0, %nctaid.x;", 8, 3) == 3).all()
    np.testing.assert_array_equal(stored("mov.u32 %r0, %ctaid.x;", 8, 3), np.repeat([0, 1, 2], 8))
    np.testing.assert_array_equal(stored("mov.u32 %r0, %warpid;", 70), np.arange(70) // 32)


def test_three_dimensions():
    out = np.empty((2, 3, 2, 4, 2, 3), np.uint32)  # grid z, y, x, block z, y, x
    body = """.reg .b32 %z<16>; mov.u32 %z0, %tid.x; mov.u32 %z1, %tid.y; mov.u32 %z2, %tid.z; mov.u32 %z3, %ctaid.x; mov.u32 %z4, %ctaid.y;
 mov.u32 %z5, %ctaid.z; mad.lo.u32 %r1, %z5, 3, %z4; mad.lo.u32 %r1, %r1, 2, %z3; mad.lo.u32 %r1, %r1, 4, %z2; mad.lo.u32 %r1, %r1, 2, %z1;
 mad.lo.u32 %r1, %r1, 3, %z0; mul.wide.u32 %q1, %r1, 4; add.u64 %q1, %q1, %a; st.global.b32 [%q1], %r1;"""
    ptx.run(kernel(body), (2, 3, 2), (3, 2, 4), [ptx.Out(out)])
    np.testing.assert_array_equal(out.ravel(), np.arange(out.size))


# Memory ------------------------------------------------------------------------------------------------------------------------------
TABLES = """.global .align 4 .b8 words[8] = {1, 0, 0, 0, 2, 1};
.const .align 8 .f64 numbers[2] = {0d3FF0000000000000, 0d4000000000000000};
.global .align 8 .u64 pointer = generic(words);
.global .align 8 .u64 further[2] = {words+4, numbers};
.global .align 4 .u32 counter;
"""


def test_module_variables():
    assert (stored("and.b32 %r1, %t, 1; mul.wide.u32 %q1, %r1, 4; mov.u64 %q2, words; add.u64 %q1, %q1, %q2; ld.global.b32 %r0, [%q1];",
                   before=TABLES) == np.where(LANE % 2, 258, 1)).all()
    assert (stored("ld.const.f64 %q1, [numbers+8]; cvt.rzi.u32.f64 %r0, %q1;", before=TABLES) == 2).all()
    assert (stored("ld.global.u64 %q1, [pointer]; ld.u32 %r0, [%q1+4];", before=TABLES) == 258).all()
    assert (stored("ld.global.u64 %q1, [further]; ld.u32 %r0, [%q1];", before=TABLES) == 258).all()
    assert (stored("ld.global.u32 %r0, [counter];", before=TABLES) == 0).all()


def test_vectors_and_narrow_accesses():
    a, out = np.arange(64, dtype=np.uint8), np.zeros(64, np.uint8)
    body = "mul.wide.u32 %q1, %t, 16; add.u64 %q2, %a, %q1; add.u64 %q3, %b, %q1; ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%q2]; " \
           "st.global.v2.u32 [%q3], {%r4, %r3}; st.global.v2.u32 [%q3+8], {%r2, %r1};"
    ptx.run(kernel(body, "ab"), 1, 4, [a, ptx.Out(out)])
    np.testing.assert_array_equal(out.view("u4").reshape(4, 4), a.view("u4").reshape(4, 4)[:, ::-1])
    signed = np.array([-3, 5, -128], np.int8)
    wide = np.empty(3, np.int32)
    ptx.run(kernel("cvt.u64.u32 %q1, %t; add.u64 %q1, %q1, %a; ld.global.s8 %r1, [%q1]; add.u64 %q2, %b, %t4; st.global.s32 [%q2], %r1;", "ab"), 1, 3,
            [signed, ptx.Out(wide)])
    np.testing.assert_array_equal(wide, signed)


GENERIC = """.shared .align 4 .b32 tile[32]; .local .align 4 .b32 own[4];
 mov.u32 %r1, tile; cvt.u64.u32 %q1, %r1; cvta.shared.u64 %q1, %q1; add.u64 %q1, %q1, %t4; st.b32 [%q1], %t; bar.sync 0;
 mov.u64 %q2, own; cvta.local.u64 %q2, %q2; add.u32 %r2, %t, 7; st.b32 [%q2+8], %r2; ld.local.b32 %r3, [own+8];
 setp.lt.u32 %p1, %t, 16; selp.b64 %q4, %q1, %q2, %p1; selp.b64 %q5, 0, 8, %p1; add.u64 %q4, %q4, %q5; ld.b32 %r4, [%q4];
 isspacep.shared %p2, %q4; selp.b32 %r5, 100, 0, %p2; mad.lo.u32 %r0, %r3, 1000, %r4; add.u32 %r0, %r0, %r5;"""


def test_generic_addresses_reach_each_space():
    np.testing.assert_array_equal(stored(GENERIC), (LANE + 7) * 1000 + np.where(LANE < 16, LANE + 100, LANE + 7))


def test_shared_memory_sized_by_the_launch():
    extern = ".extern .shared .align 16 .b8 rest[];\n.shared .align 4 .b8 fixed[12];\n"
    body = "mov.u64 %q1, rest; add.u64 %q1, %q1, %t4; st.shared.b32 [%q1], %t; st.shared.b32 [fixed+8], 5; bar.sync 0; xor.b32 %r1, %t, 3; " \
           "mul.wide.u32 %q2, %r1, 4; mov.u64 %q3, rest; add.u64 %q2, %q2, %q3; ld.shared.b32 %r0, [%q2]; mov.u64 %q4, rest; " \
           "cvt.u32.u64 %r2, %q4; mad.lo.u32 %r0, %r2, 100, %r0;"
    np.testing.assert_array_equal(stored(body, before=extern, shared_bytes=128), 1600 + (LANE ^ 3))
    with pytest.raises(ptx.OutOfBounds, match="shared access of 4 bytes at 0x80: outside memory of 128 bytes"):
        stored(body, before=extern, shared_bytes=112)


@pytest.mark.parametrize(("op", "kind", "f"), [
    ("add", "u32", lambda m, v: m + v), ("min", "s32", min), ("max", "u32", max), ("and", "b32", lambda m, v: m & v),
    ("or", "b32", lambda m, v: m | v), ("xor", "b32", lambda m, v: m ^ v), ("exch", "b32", lambda m, v: v), ("add", "u64", lambda m, v: m + v),
    ("max", "s64", max), ("inc", "u32", lambda m, v: 0 if m >= v else m + 1)])
@pytest.mark.parametrize("stride", [0, 1, 4])
def test_atomics_act_lane_after_lane(op, kind, f, stride):
    """32 lanes on 1, 8 or 32 addresses: the values found are those of a loop over the lanes."""
    size, word = int(kind[1:]) // 8, "r" if kind.endswith("32") else "q"
    rng = np.random.default_rng(3)
    memory, value = rng.integers(0, 2 ** 20, 32).astype(f"u{size}"), rng.integers(0, 2 ** 20, 32).astype(f"u{size}")
    place = np.zeros(32, int) if stride == 0 else LANE // 4 if stride == 4 else LANE
    expected, found = memory.tolist(), []
    for p, v in zip(place, value.tolist(), strict=True):
        found.append(expected[p])
        expected[p] = f(expected[p], v)
    index = {0: "mov.b32 %r1, 0;", 4: "shr.u32 %r1, %t, 2;", 1: "mov.b32 %r1, %t;"}[stride]
    body = f"{index} mad.wide.u32 %q1, %r1, {size}, %a; mad.wide.u32 %q2, %t, {size}, %b; mad.wide.u32 %q3, %t, {size}, %c; " \
           f"ld.global.b{8 * size} %{word}5, [%q2]; atom.global.{op}.{kind} %{word}6, [%q1], %{word}5; st.global.b{8 * size} [%q3], %{word}6;"
    got, after = np.empty(32, value.dtype), memory.copy()
    counters = ptx.run(kernel(body, "abc"), 1, 32, [ptx.InOut(after), value, ptx.Out(got)])
    assert (got.tolist(), after.tolist(), counters.atomics) == (found, expected, 32)
    if op not in ("exch", "inc"):
        after = memory.copy()
        ptx.run(kernel(body.replace("atom.global", "red.global").replace(f"%{word}6, [%q1]", "[%q1]").replace(f"{word}6", f"{word}5"), "abc"), 1,
                32, [ptx.InOut(after), value, ptx.Out(got)])
        assert after.tolist() == expected


def test_float_atomics_add_in_order():
    for kind, word, size in (("f32", "r", 4), ("f64", "q", 8)):
        value = np.random.default_rng(0).standard_normal(32).astype(f"f{size}")
        total = np.ones(1, f"f{size}")
        ptx.run(kernel(f"mad.wide.u32 %q1, %t, {size}, %b; ld.global.{kind} %{word}1, [%q1]; red.global.add.{kind} [%a], %{word}1;", "ab"), 1, 32,
                [ptx.InOut(total), value])
        expected = np.ones((), f"f{size}")
        for v in value:
            expected = expected + v
        assert total[0] == expected


def test_compare_and_swap_loops_end():
    """Every thread multiplies one cell by 3, by compare and swap; on 3 cells at once too."""
    body = """rem.u32 %r1, %t, 3; mad.wide.u32 %q1, %r1, 4, %a; ld.global.b32 %r2, [%q1];
 L: mul.lo.u32 %r3, %r2, 3; atom.global.cas.b32 %r4, [%q1], %r2, %r3; setp.ne.u32 %p1, %r4, %r2; mov.b32 %r2, %r4; @%p1 bra L;"""
    for threads in (1, 32, 96):
        cells = np.ones(3, np.uint32)
        ptx.run(kernel(body), 1, threads, [ptx.InOut(cells)])
        assert cells.tolist() == [pow(3, sum(t % 3 == c for t in range(threads)), 2 ** 32) for c in range(3)]


def test_a_lock_that_lanes_take_in_turn():
    """Lanes spin for a lock while its holder runs elsewhere: they must not starve it."""
    body = """mov.b32 %r9, 0;
 L: atom.global.cas.b32 %r1, [%a], 0, 1; setp.ne.u32 %p1, %r1, 0; @%p1 bra L;
 ld.volatile.global.b32 %r2, [%a+4]; add.u32 %r2, %r2, 1; st.volatile.global.b32 [%a+4], %r2; membar.gl; atom.global.exch.b32 %r3, [%a], 0;"""
    cells = np.zeros(2, np.uint32)
    ptx.run(kernel(body), 1, 8, [ptx.InOut(cells)])
    assert cells.tolist() == [0, 8]


def test_barriers_that_count_and_reduce():
    assert (stored("setp.lt.u32 %p1, %t, 5; bar.red.popc.u32 %r0, 0, %p1;", 64) == 5).all()
    assert (stored("setp.lt.u32 %p1, %t, 64; bar.red.and.pred %p2, 0, %p1; selp.b32 %r0, 1, 0, %p2;", 64) == 1).all()
    # warps 0 and 1 meet at barrier 1 and warps 2 and 3 at barrier 2, each pair by itself
    body = """.shared .align 4 .b32 tile[128]; mov.u64 %q1, tile; add.u64 %q2, %q1, %t4; st.shared.b32 [%q2], %t; setp.lt.u32 %p1, %t, 64;
 @%p1 bra FIRST; bar.sync 2, 64; bra.uni ON; FIRST: bar.sync 1, 64; ON: bar.sync 0; xor.b32 %r1, %t, 32; mad.wide.u32 %q3, %r1, 4, %q1;
 ld.shared.b32 %r0, [%q3];"""
    np.testing.assert_array_equal(stored(body, 128), np.arange(128) ^ 32)
