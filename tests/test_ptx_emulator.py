"""The PTX emulator: instructions against values computed by hand, each defect provoked, counters against counts by hand."""
from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import ptx_fuzz
import pytest
from ptx_cases import CASES, HEAD, SCALE, Case, kernel, same

from graphflow.testing import ptx

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
    texts = [case.text(f"case{i}") for i, case in enumerate(CASES.values())]
    assembles(HEAD + "\n".join(t for t in texts if "f32x2" not in t) + SCALE.removeprefix(HEAD), tmp_path)
    newer = HEAD.replace("7.8", "8.6").replace("sm_90", "sm_100")
    assembles(newer + "\n".join(t for t in texts if "f32x2" in t), tmp_path, "sm_100")


def test_the_assembler_accepts_the_kernels_below(tmp_path):
    bodies = [ASYNC.replace("WAIT", "1").replace("SECOND", ""), GENERIC, *(body for _, body, _ in DEFECTS.values()), *FINE.values()]
    names = ["ab", *["a"] * (len(bodies) - 1)]
    texts = [kernel(b, n).removeprefix(HEAD).replace(".entry kernel(", f".entry kernel{i}(") for i,
        (b, n) in enumerate(zip(bodies, names, strict=True))]
    assembles(HEAD + "\n".join(texts), tmp_path)


def test_a_kernel_on_arrays():
    x, out = np.arange(1000, dtype=np.float32), np.empty(1000, np.float32)
    counters = ptx.run(SCALE, 4, 256, [x, ptx.Out(out), 1000, 2.0])
    np.testing.assert_array_equal(out, 2 * x)
    assert (counters.global_load_sectors, counters.global_store_sectors, counters.coalesced) == (125, 125, True)


# Frames for kernels of many threads ---------------------------------------------------------------------------------------------------
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
    ("up", "3", "6144", np.where(LANE % 8 >= 3, LANE - 3, LANE)), ("bfly", "8", "6175", np.where(LANE & 8, LANE ^ 8, LANE)),
        ("bfly", "4", "6175", LANE ^ 4),
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
    same_ = "match.all.sync.b32 %r2|%p1, %r1, -1; selp.b32 %r3, 1, 0, %p1; and.b32 %r0, %r2, 7; add.u32 %r0, %r0, %r3;"
    np.testing.assert_array_equal(stored("shr.u32 %r1, %t, 5; setp.gt.u32 %p2, %t, 62; selp.b32 %r1, 9, %r1, %p2;" + same_, 64),
                                  np.repeat([8, 0], 32))
    np.testing.assert_array_equal(stored("and.b32 %r1, %t, 1; match.any.sync.b32 %r0, %r1, -1;"),
        np.where(LANE % 2, 0xAAAAAAAA, 0x55555555))


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
    ptx.run(kernel("cvt.u64.u32 %q1, %t; add.u64 %q1, %q1, %a; ld.global.s8 %r1, [%q1]; add.u64 %q2, %b, %t4; st.global.s32 [%q2], %r1;",
        "ab"), 1, 3,
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
    body = "mov.u64 %q1, rest; add.u64 %q1, %q1, %t4; st.shared.b32 [%q1], %t; st.shared.b32 [fixed+8], 5; bar.sync 0; " \
           "xor.b32 %r1, %t, 3; " \
           "mul.wide.u32 %q2, %r1, 4; mov.u64 %q3, rest; add.u64 %q2, %q2, %q3; ld.shared.b32 %r0, [%q2]; mov.u64 %q4, rest; " \
           "cvt.u32.u64 %r2, %q4; mad.lo.u32 %r0, %r2, 100, %r0;"
    np.testing.assert_array_equal(stored(body, before=extern, shared_bytes=128), 1600 + (LANE ^ 3))
    with pytest.raises(ptx.OutOfBounds, match="shared access of 4 bytes at 0x80: outside memory of 128 bytes"):
        stored(body, before=extern, shared_bytes=112)


@pytest.mark.parametrize(("op", "kind", "f"), [
    ("add", "u32", lambda m, v: m + v), ("min", "s32", min), ("max", "u32", max), ("and", "b32", lambda m, v: m & v),
    ("or", "b32", lambda m, v: m | v), ("xor", "b32", lambda m, v: m ^ v), ("exch", "b32", lambda m, v: v),
        ("add", "u64", lambda m, v: m + v),
    ("max", "s64", max), ("inc", "u32", lambda m, v: 0 if m >= v else m + 1), ("dec", "u32", lambda m, v: v if m == 0 or m > v else m - 1)])
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
           f"ld.global.b{8 * size} %{word}5, [%q2]; atom.global.{op}.{kind} %{word}6, [%q1], %{word}5; " \
           f"st.global.b{8 * size} [%q3], %{word}6;"
    got, after = np.empty(32, value.dtype), memory.copy()
    counters = ptx.run(kernel(body, "abc"), 1, 32, [ptx.InOut(after), value, ptx.Out(got)])
    assert (got.tolist(), after.tolist(), counters.atomics) == (found, expected, 32)
    if op not in ("exch", "inc", "dec"):
        after = memory.copy()
        ptx.run(kernel(body.replace("atom.global", "red.global").replace(f"%{word}6, [%q1]", "[%q1]").replace(f"{word}6", f"{word}5"),
            "abc"), 1,
                32, [ptx.InOut(after), value, ptx.Out(got)])
        assert after.tolist() == expected


def test_float_atomics_add_in_order():
    for kind, word, size in (("f32", "r", 4), ("f64", "q", 8)):
        value = np.random.default_rng(0).standard_normal(32).astype(f"f{size}")
        total = np.ones(1, f"f{size}")
        ptx.run(kernel(f"mad.wide.u32 %q1, %t, {size}, %b; ld.global.{kind} %{word}1, [%q1]; red.global.add.{kind} [%a], %{word}1;",
            "ab"), 1, 32,
                [ptx.InOut(total), value])
        expected = np.ones((), f"f{size}")
        for v in value:
            expected = expected + v
        assert total[0] == expected


def test_float_atomics_flush_subnormals_in_global_memory_only():
    tiny, add = np.full(1, 1e-40, np.float32), "mov.b32 %r1, 0f000116C2; red.SPACE.add.f32 [WHERE], %r1;"  # 1e-40
    ptx.run(kernel(add.replace("SPACE", "global").replace("WHERE", "%a"), "a"), 1, 32, [ptx.InOut(tiny)])
    assert tiny[0] == 0
    shared = ".shared .align 4 .b8 cell[4]; mov.b32 %r2, 0; st.shared.b32 [cell], %r2; bar.sync 0;" + add.replace("SPACE", "shared")
    found = np.empty(1, np.float32)
    ptx.run(kernel(shared.replace("WHERE", "cell") + "bar.sync 0; ld.shared.b32 %r3, [cell]; st.global.b32 [%a], %r3;", "a"), 1, 32,
            [ptx.Out(found)])
    assert 3.1e-39 < found[0] < 3.3e-39


def test_atomics_of_small_floats():
    """64 lanes add 1 and 2 to the halves of one word."""
    for kind, bits, ones in (("f16", 16, "15360"), ("f16x2", 32, "1073757184"), ("bf16", 16, "16256"), ("bf16x2", 32, "1073758080")):
        register = "%h1" if bits == 16 else "%r1"
        cell = np.zeros(1, np.uint32)
        ptx.run(kernel(f"mov.b{bits} {register}, {ones}; red.global.add.noftz.{kind} [%a], {register};"), 1, 64, [ptx.InOut(cell)])
        low, high = (cell.view("f2") if kind[0] == "f" else (cell.view("u2").astype("u4") << 16).view("f4"))
        assert (low, high) == (64, 128 if bits == 32 else 0), kind


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
 ld.volatile.global.b32 %r2, [%a+4]; add.u32 %r2, %r2, 1; st.volatile.global.b32 [%a+4], %r2; membar.gl;
 atom.global.exch.b32 %r3, [%a], 0;"""
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


# Matrices ----------------------------------------------------------------------------------------------------------------------------
def _numbers(a: np.ndarray, kind: str) -> np.ndarray:
    """A matrix as the bits of a type: 16-bit ones, or float32 for tf32."""
    a = a.astype(np.float32)
    return a.astype(np.float16).view("u2") if kind == "f16" else (a.view("u4") >> 16).astype("u2") if kind == "bf16" else a.view("u4")


@pytest.mark.parametrize(("shape", "kind"), [("m16n8k16", "f16"), ("m16n8k16", "bf16"), ("m16n8k8", "f16"), ("m16n8k8", "bf16"),
                                             ("m16n8k8", "tf32"), ("m16n8k4", "tf32")])
def test_matrix_products(shape, kind):
    """The fragments are laid out lane by lane from the manual's formulas, in plain Python; small integers make every sum exact."""
    k, rng = int(shape.split("k")[1]), np.random.default_rng(1)
    A, B, C = (rng.integers(-4, 5, s) for s in ((16, k), (k, 8), (16, 8)))
    per = 1 if kind == "tf32" else 2  # elements of a register
    na, nb = 16 * k // 32 // per, 8 * k // 32 // per
    bits_a, bits_b = _numbers(A, kind), _numbers(B, kind)
    def packed(values):
        return sum(int(v) << 16 * i for i, v in enumerate(values))
    a, b, c = np.zeros((32, na), "u4"), np.zeros((32, nb), "u4"), np.zeros((32, 4), "f4")
    for lane in range(32):
        group, inner = lane >> 2, lane % 4
        for r in range(na):
            row = group + 8 * (r % 2)
            column = inner * per + (8 if per == 2 else 4) * (r // 2)
            a[lane, r] = packed(bits_a[row, column:column + per])
        for r in range(nb):
            row = inner * per + (8 if per == 2 else 4) * r
            b[lane, r] = packed(bits_b[row:row + per, group])
        for i in range(4):
            c[lane, i] = C[group + 8 * (i // 2), inner * 2 + i % 2]
    loads = "".join(f"add.u32 %r9, %t, {32 * r}; mad.wide.u32 %q1, %r9, 4, %a; ld.global.b32 %r{10 + r}, [%q1];" for r in range(na))
    loads += "".join(f"add.u32 %r9, %t, {32 * r}; mad.wide.u32 %q1, %r9, 4, %b; ld.global.b32 %r{20 + r}, [%q1];" for r in range(nb))
    loads += "mad.wide.u32 %q1, %t, 16, %c; ld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%q1];"
    regs_a, regs_b = (", ".join(f"%r{at + r}" for r in range(n)) for at, n in ((10, na), (20, nb)))
    body = f"{loads} mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32 {{%f4, %f5, %f6, %f7}}, {{{regs_a}}}, {{{regs_b}}}, " \
           "{%f0, %f1, %f2, %f3}; mad.wide.u32 %q2, %t, 16, %d; st.global.v4.f32 [%q2], {%f4, %f5, %f6, %f7};"
    d = np.empty((32, 4), np.float32)
    ptx.run(kernel(body, "abcd", ".reg .f32 %f<8>;"), 1, 32, [a.T.copy(), b.T.copy(), c, ptx.Out(d)])
    D = np.empty((16, 8))
    for lane in range(32):
        for i in range(4):
            D[(lane >> 2) + 8 * (i // 2), lane % 4 * 2 + i % 2] = d[lane, i]
    np.testing.assert_array_equal(D, A @ B + C)


@pytest.mark.parametrize("trans", ["", ".trans"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_load_matrix(count, trans):
    """Each lane gets two neighbours of row lane/4, or of column lane/4, of each 8 x 8 matrix; rows stand 16 bytes apart."""
    halves = np.arange(32 * 8, dtype=np.uint16)
    registers = ", ".join(f"%r{i}" for i in range(count))
    body = f""".shared .align 16 .b8 tile[512]; mad.wide.u32 %q1, %t, 16, %a; ld.global.v4.u32 {{%r4, %r5, %r6, %r7}}, [%q1];
 mov.u32 %r8, tile;
 mad.lo.u32 %r9, %t, 16, %r8; st.shared.v4.u32 [%r9], {{%r4, %r5, %r6, %r7}}; bar.sync 0;
 ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{registers}}}, [%r9]; mad.wide.u32 %q2, %t, {4 * count}, %b;
 """ + " ".join(f"st.global.b32 [%q2+{4 * i}], %r{i};" for i in range(count))
    out = np.empty((32, count, 2), np.uint16)
    ptx.run(kernel(body, "ab"), 1, 32, [halves, ptx.Out(out)])
    for i in range(count):
        matrix = halves.reshape(4, 8, 8)[i]
        np.testing.assert_array_equal(out[:, i].reshape(8, 8), matrix.T if trans else matrix)


ASYNC = """.shared .align 16 .b8 tile[1024]; mov.u32 %r1, tile; mad.lo.u32 %r2, %t, 16, %r1; mad.wide.u32 %q1, %t, 16, %a;
 cp.async.cg.shared.global [%r2], [%q1], 16; cp.async.commit_group;
 add.u64 %q2, %q1, 512; cp.async.ca.shared.global [%r2+512], [%q2], 16, 4; cp.async.commit_group;
 cp.async.wait_group WAIT; bar.sync 0; xor.b32 %r3, %t, 1; mad.lo.u32 %r4, %r3, 16, %r1; ld.shared.b32 %r5, [%r4];
 SECOND add.u64 %q3, %b, %t4; st.global.b32 [%q3], %r5;"""


def test_asynchronous_copies():
    a, out = np.arange(256, dtype=np.uint32), np.empty(32, np.uint32)
    ptx.run(kernel(ASYNC.replace("WAIT", "1").replace("SECOND", ""), "ab"), 1, 32, [a, ptx.Out(out)])
    np.testing.assert_array_equal(out, (LANE ^ 1) * 4)
    both = "ld.shared.v2.b32 {%r6, %r7}, [%r4+512]; add.u32 %r5, %r6, %r7;"  # 4 bytes copied, 12 zeros
    ptx.run(kernel(ASYNC.replace("WAIT", "0").replace("SECOND", both), "ab"), 1, 32, [a, ptx.Out(out)])
    np.testing.assert_array_equal(out, 128 + (LANE ^ 1) * 4)
    with pytest.raises(ptx.UninitializedRead, match="shared load"):  # the second group has not been waited for
        ptx.run(kernel(ASYNC.replace("WAIT", "1").replace("SECOND", both), "ab"), 1, 32, [a, ptx.Out(out)])
    with pytest.raises(ptx.SharedRace):
        ptx.run(kernel(ASYNC.replace("WAIT", "0").replace("SECOND", "").replace("bar.sync 0;", ""), "ab"), 1, 32, [a, ptx.Out(out)])


# Defects -----------------------------------------------------------------------------------------------------------------------------
SHARED = ".shared .align 16 .b8 tile[128]; mov.u64 %q1, tile; add.u64 %q2, %q1, %t4; xor.b32 %r1, %t, 1; mad.wide.u32 %q3, %r1, 4, %q1;"
DEFECTS = {
    "above an allocation": (ptx.OutOfBounds, "ld.global.b32 %r1, [%a+4096];", "global access of 4 bytes at 0x[0-9a-f]+, 4096 bytes into an "
                            "allocation of 128"),
    "one element too far": (ptx.OutOfBounds, "add.u64 %q1, %a, %t4; ld.global.b32 %r1, [%q1+4];", "thread \\(31, 0, 0\\)"),
    "just behind the end": (ptx.OutOfBounds, "st.global.v4.b32 [%a+112], {%t, %t, %t, %t}; st.global.v4.b32 [%a+128], {%t, %t, %t, %t};",
        "outside every allocation"),
    "a null pointer": (ptx.OutOfBounds, "mov.u64 %q1, 0; st.global.b32 [%q1], %t;", "at 0x0: outside"),
    "a generic null pointer": (ptx.OutOfBounds, "mov.u64 %q1, 0; st.b32 [%q1], %t;", "at 0x0: outside"),
    "above shared memory": (ptx.OutOfBounds, SHARED + "st.shared.b32 [%q2+4], %t;",
        "shared access of 4 bytes at 0x80: outside memory of 128"),
    "below shared memory": (ptx.OutOfBounds, SHARED + "st.shared.b32 [%q2+-4], %t;", "thread \\(0, 0, 0\\)"),
    "outside local memory": (ptx.OutOfBounds, ".local .align 4 .b8 own[16]; st.local.b32 [own+16], %t;", "local access"),
    "an atomic outside": (ptx.OutOfBounds, "red.global.add.u32 [%a+128], 1;", "line .*red.global.add.u32"),
    "misaligned global": (ptx.Misaligned, "add.u64 %q1, %a, %t4; ld.global.v2.b32 {%r1, %r2}, [%q1];",
        "no multiple of 8.*thread \\(1, 0, 0\\)"),
    "misaligned shared": (ptx.Misaligned, SHARED + "st.shared.b32 [tile+2], %t;", "shared address 0x2 is no multiple of 4"),
    "misaligned local": (ptx.Misaligned, ".local .align 4 .b8 own[16]; st.local.b32 [own+2], %t;", "local address"),
    "unwritten shared": (ptx.UninitializedRead, SHARED + "ld.shared.b32 %r1, [%q2];", "shared load of 4 bytes"),
    "unwritten local": (ptx.UninitializedRead, ".local .align 4 .b8 own[16]; ld.local.b32 %r1, [own];", "local load"),
    "half written": (ptx.UninitializedRead, SHARED + "st.shared.b16 [tile], %h1; ld.shared.b32 %r1, [tile];", "shared load of 4"),
    "shared: read after write": (ptx.SharedRace, SHARED + "st.shared.b32 [%q2], %t; ld.shared.b32 %r2, [%q3];", "writes .* reads"),
    "shared: write after read": (ptx.SharedRace, SHARED + "st.shared.b32 [%q2], %t; bar.sync 0; ld.shared.b32 %r2, [%q2]; "
                                 "st.shared.b32 [%q3], %r2;", "reads .* writes"),
    "shared: two writers": (ptx.SharedRace, SHARED + "st.shared.b32 [tile], %t;", "writes .* writes"),
    "shared: part of a word": (ptx.SharedRace, SHARED + "st.shared.b16 [tile], %h1; bar.sync 0; setp.eq.u32 %p1, %t, 3; "
                               "@%p1 st.shared.b8 [tile+1], %h1; ld.shared.b16 %h2, [tile];", None),
    "shared: atomic and store": (ptx.SharedRace, SHARED + "st.shared.b32 [%q2], %t; bar.sync 0; red.shared.add.u32 [tile], 1; "
                                 "st.shared.b32 [%q2], 5;", "updates"),
    "global: two writers": (ptx.GlobalRace, "st.global.b32 [%a], %t;", "block \\(0, 0, 0\\), thread .* writes .* unordered"),
    "global: read of what another wrote": (ptx.GlobalRace, "add.u64 %q1, %a, %i4; st.global.b32 [%q1], %t; xor.b32 %r1, %i, 1; "
                                           "mad.wide.u32 %q2, %r1, 4, %a; ld.global.b32 %r2, [%q2];", "writes .* reads"),
    "global: write over what another reads": (ptx.GlobalRace, "xor.b32 %r1, %i, 1; mad.wide.u32 %q2, %r1, 4, %a; ld.global.b32 %r2, [%q2]; "
                                              "add.u64 %q1, %a, %i4; st.global.b32 [%q1], %t;", "reads .* writes"),
    "global: constant loads of what is written": (
        ptx.GlobalRace, "add.u64 %q1, %a, %i4; st.global.b32 [%q1], %t; bar.sync 0; ld.global.nc.b32 %r2, [%q1];",
            "its cache need not see it"),
    "divergent barriers": (ptx.BarrierFault, "setp.lt.u32 %p1, %t, 16; @%p1 bra L; bar.sync 0; bra.uni E; L: bar.sync 0; E:",
                           "different barriers \\(also line"),
    "a barrier some threads miss": (ptx.BarrierFault, "setp.lt.u32 %p1, %t, 16; @%p1 bra L; bar.sync 0; L:",
        "16 threads of the block have exited"),
    "an early exit": (ptx.BarrierFault, "setp.eq.u32 %p1, %t, 5; @%p1 exit; bar.sync 0;", "1 threads of the block have exited"),
    "a barrier for more threads": (ptx.BarrierFault, "bar.sync 1, 64;", "never complete"),
    "a shuffle from a lane elsewhere": (ptx.InactiveLane,
        "setp.lt.u32 %p1, %t, 16; @%p1 bra L; shfl.sync.bfly.b32 %r1, %t, 16, 31, 0xFFFF0000; L:",
                                        "lane 16 reads lane 0"),
    "a shuffle that waits for exited lanes": (ptx.InactiveLane,
        "setp.lt.u32 %p1, %t, 16; @%p1 exit; shfl.sync.bfly.b32 %r1, %t, 16, 31, -1;",
                                              "lane 16 reads lane 0"),
    "a warp instruction that waits in vain": (ptx.InactiveLane, "setp.lt.u32 %p1, %t, 16; @%p1 bra L; bar.warp.sync -1; L: bar.sync 0;",
                                              "lanes of its mask that never come"),
    "an infinite loop": (ptx.StepLimit, "L: add.u32 %r1, %r1, 1; bra.uni L;", "no end after 10000 instructions"),
    "a loop of some lanes": (ptx.StepLimit, "L: setp.gt.u32 %p1, %t, 3; @%p1 bra L;", "thread \\(4, 0, 0\\)"),
    "a matrix product of half a warp": (
        ptx.InactiveLane, "setp.lt.u32 %p1, %t, 16; @%p1 exit; mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%r1, %r2, %r3, %r4}, "
        "{%r5, %r6}, {%r7}, {%r1, %r2, %r3, %r4};", "all 32 lanes"),
    "an index beyond its table": (ptx.EmulationError, "TABLE: .branchtargets L, M; brx.idx %t, TABLE; L: M:",
        "beyond its table.*thread \\(2, 0, 0\\)"),
    "a trap": (ptx.EmulationError, "setp.eq.u32 %p1, %t, 9; @%p1 trap;", "trap.*thread \\(9, 0, 0\\)"),
}
CHECK_OF = {ptx.OutOfBounds: "bounds", ptx.Misaligned: "alignment", ptx.UninitializedRead: "uninitialized", ptx.SharedRace: "shared_races",
            ptx.GlobalRace: "global_races"}


@pytest.mark.parametrize(("kind", "body", "message"), DEFECTS.values(), ids=DEFECTS.keys())
def test_a_defect(kind, body, message):
    text, checks = kernel(body), ptx.Checks(steps=10000)
    with pytest.raises(kind, match=f"(?s){message}" if message else None) as caught:
        ptx.run(text, 1, 32, [np.arange(32, dtype=np.uint32)], checks=checks)
    error = caught.value
    assert type(error) is kind and error.kernel == "kernel"
    assert error.block == (0, 0, 0) and error.thread is not None
    assert error.instruction and error.instruction.split()[0] in text.split("\n")[error.line - 1]
    if kind in CHECK_OF:  # switched off, nothing is said of it
        try:
            ptx.run(text, 1, 32, [np.arange(32, dtype=np.uint32)], checks=checks.without(CHECK_OF[kind], "uninitialized"))
        except ptx.EmulationError as other:
            assert type(other) is not kind


FINE = {
    "equal values": "st.global.b32 [%a], 7;",
    "a barrier between": "add.u64 %q1, %a, %i4; st.global.b32 [%q1], %t; bar.sync 0; xor.b32 %r1, %i, 1; mad.wide.u32 %q2, %r1, 4, %a; "
                         "ld.global.b32 %r2, [%q2];",
    "a warp barrier between": SHARED + "st.shared.b32 [%q2], %t; bar.warp.sync -1; ld.shared.b32 %r2, [%q3];",
    "atomics": "red.global.add.u32 [%a], 1; atom.global.add.u32 %r1, [%a], 2;",
    "a read, then atomics": "ld.global.b32 %r2, [%a]; red.global.max.u32 [%a], 9;",
    "volatile": "st.volatile.global.b32 [%a], %t; ld.volatile.global.b32 %r1, [%a];",
    "constant loads before": "add.u64 %q1, %a, %i4; ld.global.nc.b32 %r2, [%q1]; st.global.b32 [%q1], %t;",
    "a thread's own": "add.u64 %q1, %a, %i4; st.global.b32 [%q1], %t; ld.global.b32 %r2, [%q1]; st.global.b32 [%q1], %r2;",
    "halves of a word": SHARED + "shl.b32 %r2, %t, 1; cvt.u64.u32 %q4, %r2; add.u64 %q4, %q4, %q1; st.shared.b16 [%q4], %h1; bar.sync 0; "
                        "ld.shared.b32 %r3, [tile];",
    "whole blocks that leave": "setp.eq.u32 %p1, %r31, 0; @%p1 exit; bar.sync 0;",
    "a barrier in a loop": SHARED + "mov.b32 %r4, 0; L: st.shared.b32 [%q2], %r4; bar.sync 0; ld.shared.b32 %r5, [%q3]; bar.sync 0; "
                           "add.u32 %r4, %r4, 1; setp.lt.u32 %p1, %r4, 3; @%p1 bra L;",
    "blocks with loops of their own": SHARED + "mov.b32 %r4, 0; L: st.shared.b32 [%q2], %r4; bar.sync 0; ld.shared.b32 %r5, [%q3]; "
                                               "bar.sync 0; "
                                      "add.u32 %r4, %r4, 1; setp.le.u32 %p1, %r4, %r31; @%p1 bra L;",
    "the last block reads what others wrote": """mul.wide.u32 %q1, %r31, 4; add.u64 %q1, %a, %q1; setp.ne.u32 %p1, %t, 0; @%p1 bra E;
 st.global.b32 [%q1+4], %r31; membar.gl; atom.global.add.u32 %r1, [%a], 1; setp.ne.u32 %p2, %r1, 3; @%p2 bra E;
 ld.global.b32 %r2, [%a+4]; ld.global.b32 %r3, [%a+12]; E:""",
}


@pytest.mark.parametrize("body", FINE.values(), ids=FINE.keys())
def test_what_is_no_defect(body):
    ptx.run(kernel(body), 4, 32, [ptx.InOut(np.zeros(256, np.uint32))])


def test_one_cell_of_a_hundred_thousand_threads():
    """Stores of equal values, and a race between many reads and one store: neither is looked at pair by pair."""
    cell = np.zeros(1, np.uint32)
    ptx.run(kernel("st.global.b32 [%a], 7;"), 400, 256, [ptx.InOut(cell)])
    assert cell[0] == 7
    with pytest.raises(ptx.GlobalRace, match=r"reads .* and block \(390, 0, 0\), thread \(159, 0, 0\) writes"):
        ptx.run(kernel("ld.global.b32 %r1, [%a]; setp.eq.u32 %p1, %i, 99999; @%p1 st.global.b32 [%a], %i;"), 400, 256, [ptx.InOut(cell)])


def test_the_last_block_sums_up_in_several_batches():
    """Each block writes its part, fences and counts itself; the last one reads the parts of all."""
    body = """setp.ne.u32 %p1, %t, 0; @%p1 bra E; mad.wide.u32 %q1, %r31, 4, %a; st.global.b32 [%q1+8], %r31; FENCE
 atom.global.add.u32 %r1, [%a], 1; setp.ne.u32 %p2, %r1, 299; @%p2 bra E; mov.b32 %r2, 0; mov.b32 %r3, 0;
 L: mad.wide.u32 %q2, %r2, 4, %a; ld.global.b32 %r4, [%q2+8]; add.u32 %r3, %r3, %r4; add.u32 %r2, %r2, 1; setp.lt.u32 %p3, %r2, 300;
 @%p3 bra L;
 st.global.b32 [%a+4], %r3; E:"""
    cells = np.zeros(302, np.uint32)
    ptx.run(kernel(body.replace("FENCE", "membar.gl;")), 300, 64, [ptx.InOut(cells)])
    assert cells[1] == sum(range(300))
    with pytest.raises(ptx.GlobalRace, match="writes .* reads"):
        ptx.run(kernel(body.replace("FENCE", "")), 300, 64, [ptx.InOut(np.zeros(302, np.uint32))])


def test_a_race_between_blocks():
    text = kernel("mul.wide.u32 %q1, %r31, 4; add.u64 %q1, %a, %q1; st.global.b32 [%a+400], %r31;")
    with pytest.raises(ptx.GlobalRace, match=r"block \(0, 0, 0\), thread \(\d+, 0, 0\) writes"):
        ptx.run(text, 300, 64, [np.zeros(256, np.uint32)])  # in several batches


def test_outputs_never_written():
    memory = ptx.Memory(1 << 20)
    a = memory.allocate(64)
    ptx.launch(kernel("setp.lt.u32 %p1, %t, 3; add.u64 %q1, %a, %t4; @%p1 st.global.b32 [%q1], %t;"), memory, 1, 32, [a])
    np.testing.assert_array_equal(memory.never_written(a), np.arange(12, 64))
    with pytest.raises(ptx.UninitializedRead, match="52 of 64 bytes of an output were never written, the first at offset 12"):
        ptx.run(kernel("setp.lt.u32 %p1, %t, 3; add.u64 %q1, %a, %t4; @%p1 st.global.b32 [%q1], %t;"), 1, 32, [ptx.Out(np.zeros(16, "f4"))])


def test_reads_of_unwritten_global_memory():
    memory = ptx.Memory(1 << 20)
    a = memory.allocate(128)
    memory.write(a, np.zeros(16, np.uint32))
    text = kernel("add.u64 %q1, %a, %t4; ld.global.b32 %r1, [%q1];")
    ptx.launch(text, memory, 1, 16, [a])
    with pytest.raises(ptx.UninitializedRead, match="64 bytes into an allocation of 128: never written"):
        ptx.launch(text, memory, 1, 32, [a])
    memory.free(a)
    with pytest.raises(ptx.OutOfBounds):
        ptx.launch(text, memory, 1, 16, [a])


def test_shuffles_from_anywhere_when_nobody_minds():
    body = "setp.lt.u32 %p1, %t, 16; @%p1 exit; shfl.sync.bfly.b32 %r1, %t, 16, 31, -1;"
    ptx.run(kernel(body), 1, 32, [np.zeros(1)], checks=ptx.Checks().without("lanes"))


REFUSED = """add.rz.f16 %h1, %h2, %h3; fma.rz.bf16 %h1, %h2, %h3, %h4; div.rn.s32 %r1, %r2, %r3; min.rn.f32 %r1, %r2, %r3; add.s8 %h1;
 setp.lt.f16x2 %p1, %r1, %r2; setp.frob.s32 %p1, %r1, %r2; set.lt.and.u32.s32 %r1, %r2, %r3, %p1; cvt.f32 %r1, %r2; cvt.rq.f32.f64 %r1, %q1;
 cvt.rn.s32.f32 %r1, %r2; cvt.pred.f32 %p1, %r1; cvt.rna.f32.f64 %r1, %q1; cvt.rni.f32.s32 %r1, %r2; cvt.rp.tf32.f32 %r1, %r2;
 cvt.rn.satfinite.e4m3x2.f32 %h1, %r1, %r2; sqrt.rz.f32 %r1, %r2; testp.odd.f32 %p1, %r1; dp4a.s32 %r1, %r2, %r3, %r4;
 prmt.b64 %q1, %q2, %q3, %q4;
 atom.global.mul.u32 %r1, [%q1], %r2; atom.global.max.f32 %r1, [%q1], %r2; atom.global.max.f16 %h1, [%q1], %h2; mov.v2.b32 %r1, %r2;
 selp.ftz.f32 %r1, %r2, %r3, %p1; cp.async.bulk.shared.global [%q1], [%q2], 16; cp.async.cg.shared.global [%r1], [%q2], 8; cp.frob [%r1];
 ld.global.v8.b32 {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8}, [%q1]; vote.all.pred %p1, %p2; vote.sync.most.pred %p1, %p2, -1; add.f32.cc %r1;
 match.sync.any.b32 %r1, %r2, -1; redux.sync.mul.s32 %r1, %r2, -1; bar.arrive 0, 64; @%p1 bar.sync 0; @%p1 brx.idx %r1, T;
 madc.u32 %r1, %r2, %r3, %r4;
 mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%r1}, {%r2}, {%r3}, {%r4}; mma.m16n8k8.row.col.f32.f16.f16.f32 {%r1}, {%r2}, {%r3}, {%r4};
 ldmatrix.sync.aligned.m16n16.x1.shared.b8 {%r1}, [%r2]; ld.param.u64 %q1, [in_a+4]; abs.f32 ; shl.b32 %r1; not.b32 %r1, %r2, %r3"""


@pytest.mark.parametrize("line", [" ".join(part.split()) for part in REFUSED.split(";")])
def test_what_is_half_known_is_refused(line):
    """A modifier, a type or a shape that is not modelled: no instruction is taken for its neighbour."""
    text = kernel(f"T: .branchtargets END;\n{line};\nEND:")
    with pytest.raises((ptx.Unsupported, ptx.SyntaxFault)) as caught:
        ptx.program(text)
    assert line.split()[-1].strip("[]{}") in text.split("\n")[caught.value.line - 1]


NOT_PTX = {
    ".reg .b32 %r1": "not a PTX directive", ".global .b32;": "unknown type", ".global .frob x;": "unknown type", ".entry 7": "head",
    ".entry k() { ret;": "does not end", ".entry k() { .frob 7; }": "directive .frob", ".entry k() { 77; }": "not an instruction",
    ".global .u64 x = frob(3);": "neither a number", ".global .b32 x = y;": "neither a number nor an 8-byte address",
}


@pytest.mark.parametrize(("text", "message"), NOT_PTX.items())
def test_what_is_not_ptx_is_said_with_its_line(text, message):
    with pytest.raises(ptx.SyntaxFault, match=message):
        ptx.parse(HEAD + text)


def test_functions_that_cannot_be_opened():
    head = ".func (.param .b32 out) f(.param .b32 x) { .reg .b32 %r<3>; ld.param.b32 %r1, [x];"
    call = "{ .param .b32 p; .param .b32 q; st.param.b32 [p], %t; GUARD call.uni (q), f, (p); ld.param.b32 %r0, [q]; }"
    recursive = head + " { .param .b32 p; .param .b32 q; st.param.b32 [p], %r1; call (q), f, (p); } ret; }\n"
    with pytest.raises(ptx.Unsupported, match="f calls itself"):
        stored(call.replace("GUARD", ""), before=recursive)
    doubling = head + " add.u32 %r2, %r1, %r1; st.param.b32 [out], %r2; setp.lt.u32 %p1, %r1, 5; @%p1 ret; add.u32 %r2, %r2, 100; " \
        "st.param.b32 [out], %r2; END: }\n".replace("END:", "ret;")
    doubling = doubling.replace(".reg .b32 %r<3>;", ".reg .b32 %r<3>; .reg .pred %p<2>;")
    np.testing.assert_array_equal(stored(call.replace("GUARD", ""), before=doubling), 2 * LANE + np.where(LANE < 5, 0, 100))
    guarded = "setp.lt.u32 %p2, %t, 9; " + call.replace("st.param.b32 [p], %t;", "st.param.b32 [p], %t; st.param.b32 [q], 77;")
    np.testing.assert_array_equal(stored(guarded.replace("GUARD", "@%p2"), before=doubling),
                                  np.where(LANE < 9, 2 * LANE + np.where(LANE < 5, 0, 100), 77))


UNKNOWN = {
    "frobnicate.f32 %r1, %r2;": (ptx.Unsupported, "frobnicate.f32"), "add.rq.f32 %r1, %r2, %r3;": (ptx.Unsupported, "modifier rq"),
    "tex.2d.v4.f32.f32 {%r1, %r2, %r3, %r4}, [%q1, {%r1, %r2}];": (ptx.Unsupported, "tex"),
        "add.s32 %r1, %r2;": (ptx.SyntaxFault, "3|2 op"),
    "add.s32 %r1, %r2, %nothing;": (ptx.SyntaxFault, "unknown operand %nothing"),
        "ld.param.u32 %r1, [nowhere];": (ptx.SyntaxFault, "nowhere"),
    "ld.global.frob.b32 %r1, [%q1];": (ptx.Unsupported, "modifier frob"), "shfl.down.b32 %r1, %r2, 1, 31;": (ptx.Unsupported, "shfl.down"),
    ".reg .b128 %wide;": (ptx.SyntaxFault, "b128"), "call (%r1), %q1, (%r2);": (ptx.Unsupported, "address"),
}


@pytest.mark.parametrize(("line", "kind", "message"), [(k, *v) for k, v in UNKNOWN.items()])
def test_what_is_not_known_is_named_with_its_line(line, kind, message):
    text = kernel(f"mov.u32 %r5, 1;\n{line}")
    with pytest.raises(kind, match=message) as caught:
        ptx.run(text, 1, 32, [np.zeros(1)])
    assert line.split()[0].rstrip(";") in text.split("\n")[caught.value.line - 1]


def test_parameters_by_address():
    """LLVM makes of a choice between two parameters a load from the address that is chosen."""
    text = """.version 7.8
.target sm_90
.address_size 64
.visible .entry kernel(.param .u64 out, .param .u32 one, .param .u32 other, .param .u32 far)
{
 .reg .pred %p<3>; .reg .b32 %r<4>; .reg .b64 %q<9>;
 ld.param.u64 %q1, [out]; ld.param.u32 %r3, [far];
 mov.u32 %r1, %tid.x; mul.wide.u32 %q2, %r1, 4; add.s64 %q1, %q1, %q2;
 setp.eq.u32 %p1, %r1, 1; setp.eq.u32 %p2, %r1, %r3;
 mov.b64 %q3, one; mov.b64 %q4, other; selp.b64 %q5, %q3, %q4, %p1; add.s64 %q6, %q5, 64; selp.b64 %q5, %q6, %q5, %p2;
 ld.param.b32 %r2, [%q5];
 st.global.b32 [%q1], %r2;
 ret;
}
"""
    found = np.zeros(40, np.int32)
    ptx.run(text, 1, 40, [ptx.Out(found), 7, -3, 99])
    np.testing.assert_array_equal(found, np.where(np.arange(40) == 1, 7, -3))
    with pytest.raises(ptx.OutOfBounds, match=r"(?s)parameter space at 76 of 20 bytes.*thread \(5, 0, 0\)"):
        ptx.run(text, 1, 40, [ptx.Out(found), 7, -3, 5])


def test_launches_that_do_not_fit():
    text = kernel("mov.u32 %r1, 1;")
    for grid, block, arguments, message in (((1,), 2048, [0], "at most 1024"), ((0,), 32, [0], "positive"),
        ((1,), 32, [], "0 arguments for 1"),
                                            ((1, 70000), 32, [0], "65535")):
        with pytest.raises(ptx.LaunchFault, match=message):
            ptx.launch(text, ptx.Memory(1 << 16), grid, block, arguments)
    with pytest.raises(ptx.LaunchFault, match="232448"):
        ptx.launch(text, ptx.Memory(1 << 16), 1, 32, [0], shared_bytes=300000)
    with pytest.raises(ptx.LaunchFault, match="maxntid"):
        ptx.launch(text.replace("\n{", "\n.maxntid 64, 1, 1\n{", 1), ptx.Memory(1 << 16), 1, 128, [0])
    with pytest.raises(ptx.LaunchFault, match="reqntid"):
        ptx.launch(text.replace("\n{", "\n.reqntid 64\n{", 1), ptx.Memory(1 << 16), 1, 128, [0])
    with pytest.raises(ptx.LaunchFault, match="at most 49152"):
        ptx.launch(kernel(".shared .b8 tile[50000]; st.shared.b8 [tile], %h1;"), ptx.Memory(1 << 16), 1, 32, [0])
    for arguments, message in ((b"1234", "4 bytes of arguments, the parameters have 8"), ([b"1234"], "4 bytes for parameter in_a of 8")):
        with pytest.raises(ptx.LaunchFault, match=message):
            ptx.launch(text, ptx.Memory(1 << 16), 1, 32, arguments)
    with pytest.raises(ptx.LaunchFault, match="no kernel other"):
        ptx.program(text, "other")
    with pytest.raises(ptx.LaunchFault, match="the module has 2 kernels"):
        ptx.program(text + text.removeprefix(HEAD).replace("kernel(", "second("))


def test_memory_by_itself():
    memory = ptx.Memory(1 << 16)
    a = memory.store(np.arange(10, dtype=np.int16))
    assert [(x.address, x.nbytes) for x in memory.allocations] == [(a,
        20)] and memory.find(a + 7).address == a and memory.find(a - 1) is None
    assert memory.read(a + 4, np.int16, 3).tolist() == [2, 3, 4] and not memory.never_written(a).size
    memory.forget(a, 4)
    assert memory.never_written(a).tolist() == [0, 1, 2, 3]
    memory.forget(a)
    assert memory.never_written(a).size == 20
    for call in (lambda: memory.read(a, np.int16, 11), lambda: memory.write(a - 2, b"12"), lambda: memory.never_written(12345),
                 lambda: memory.allocate(0), lambda: memory.free(a + 2)):
        with pytest.raises(ValueError, match="allocation"):
            call()
    with pytest.raises(MemoryError):
        memory.allocate(1 << 17)


# Counters ----------------------------------------------------------------------------------------------------------------------------
def counted(body: str, threads: int = 32, blocks: int = 1, bytes_: int = 1 << 14, **options) -> ptx.Counters:
    return ptx.run(kernel(body, **options), blocks, threads, [ptx.InOut(np.zeros(bytes_, np.uint8))])


@pytest.mark.parametrize(("address", "kind", "sectors", "minimum"), [
    ("mad.wide.u32 %q1, %t, 4, %a;", "b32", 4, 4),          # 32 x 4 bytes side by side
    ("mad.wide.u32 %q1, %t, 4, %a; add.u64 %q1, %q1, 16;", "b32", 5, 4),   # the same, not aligned to sectors
    ("mad.wide.u32 %q1, %t, 8, %a;", "b32", 8, 4),          # every second word
    ("mad.wide.u32 %q1, %t, 128, %a;", "b32", 32, 4),       # a column
    ("mov.u64 %q1, %a;", "b32", 1, 1),                      # one word for all
    ("mad.wide.u32 %q1, %t, 16, %a;", "v4.b32", 16, 16),    # 32 x 16 bytes
    ("mad.wide.u32 %q1, %t, 32, %a;", "v4.b32", 32, 16),
    ("cvt.u64.u32 %q1, %t; add.u64 %q1, %a, %q1;", "b8", 1, 1),
    ("shr.u32 %r9, %t, 1; mad.wide.u32 %q1, %r9, 4, %a;", "b32", 2, 2),    # pairs of lanes on a word
])
def test_sectors(address, kind, sectors, minimum):
    registers = "{%r1, %r2, %r3, %r4}" if "v4" in kind else "%h1" if kind == "b8" else "%r1"
    c = counted(f"{address} ld.global.{kind} {registers}, [%q1];")
    assert (c.global_load_sectors, c.global_load_minimum, c.global_store_sectors) == (sectors, minimum, 0)
    assert c.coalesced == (sectors == minimum)
    assert c.global_load_bytes == 32 * {"b32": 4, "v4.b32": 16, "b8": 1}[kind]


def test_sectors_of_part_of_a_warp():
    c = counted("setp.lt.u32 %p1, %t, 20; add.u64 %q1, %a, %t4; @%p1 st.global.b32 [%q1], %t;", 40)
    assert (c.global_store_sectors, c.global_store_minimum, c.global_store_bytes) == (3, 3, 80)


@pytest.mark.parametrize(("index", "kind", "conflicts"), [
    ("mov.b32 %r1, %t;", "b32", 0), ("shl.b32 %r1, %t, 1;", "b32", 1), ("shl.b32 %r1, %t, 2;", "b32", 3),
        ("shl.b32 %r1, %t, 5;", "b32", 31),
    ("mul.lo.u32 %r1, %t, 33;", "b32", 0), ("mov.b32 %r1, 0;", "b32", 0), ("shr.u32 %r1, %t, 1;", "b32", 0),
    ("shl.b32 %r1, %t, 1;", "v2.b32", 0),      # 64 bits side by side: two halves, no conflict
    ("shl.b32 %r1, %t, 2;", "v2.b32", 2),      # every second pair: each half goes twice
    ("shl.b32 %r1, %t, 2;", "v4.b32", 0),      # 128 bits side by side: four quarters
    ("shl.b32 %r1, %t, 3;", "v4.b32", 4),      # every second one: each quarter goes twice
    ("shl.b32 %r1, %t, 5;", "v4.b32", 28),     # a column of rows of 128 bytes: each quarter goes 8 times
    ("shr.u32 %r1, %t, 2;", "b8", 0)])
def test_bank_conflicts(index, kind, conflicts):
    registers = {"b32": "%t", "b8": "%h1", "v2.b32": "{%t, %t}", "v4.b32": "{%t, %t, %t, %t}"}[kind]
    loads = registers.replace("%t", "%r2") if kind != "v2.b32" else "{%r2, %r3}"
    loads = "{%r2, %r3, %r4, %r5}" if kind == "v4.b32" else "%h2" if kind == "b8" else loads
    text = kernel(f".shared .align 16 .b8 tile[4352]; mov.u64 %q1, tile; {index} mad.wide.u32 %q2, %r1, 4, %q1; "
                  f"st.shared.{kind} [%q2], {registers}; bar.sync 0; ld.shared.{kind} {loads}, [%q2];")
    c = ptx.run(text, 1, 32, [np.zeros(1)], checks=ptx.Checks().without("shared_races"))
    assert (c.bank_conflicts, c.shared_accesses, c.barriers) == (2 * conflicts, 2, 1)


def test_counts_of_instructions():
    # 2 warps of a block of 40, 3 blocks; the frame before the body has 7 instructions, ret is one
    c = counted("mov.b32 %r1, 1; mov.b32 %r2, 2;", 40, 3)
    assert (c.launches, c.instructions, c.thread_instructions) == (1, 3 * 2 * 10, 3 * 40 * 10)
    diverging = counted("setp.lt.u32 %p1, %t, 8; @%p1 bra L; mov.b32 %r1, 1; mov.b32 %r1, 2; L:", 64)
    assert diverging.instructions == 2 * (8 + 2) + 2 * 2  # both warps run all of it, lanes 0 to 7 of the first wait
    assert diverging.thread_instructions == 64 * 10 + 2 * 56


def test_counts_of_the_rest():
    c = counted(".local .align 4 .b8 own[8]; st.local.b32 [own], %t; ld.local.b32 %r1, [own]; red.global.add.u32 [%a], 1; bar.sync 0;",
        64, 3)
    assert (c.local_accesses, c.atomics, c.barriers) == (2 * 64 * 3, 64 * 3, 3)
    total = c.copy()
    total.add(c)
    assert (total.atomics, (total - c).atomics, total.launches) == (2 * c.atomics, c.atomics, 2)
    total.reset()
    assert total == ptx.Counters()


def test_counting_can_be_left_out():
    c = ptx.run(SCALE, 1, 32, [np.zeros(32, "f4"), ptx.Out(np.zeros(32, "f4")), 32, 1.0], checks=ptx.NOTHING)
    assert c.global_load_sectors == 0


# Kernels that compilers make ---------------------------------------------------------------------------------------------------------
WORDS = """target triple = "nvptx64-nvidia-cuda"
declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.nctaid.x()
declare void @llvm.nvvm.barrier.cta.sync.aligned.all(i32)
declare i32 @llvm.nvvm.shfl.sync.down.i32(i32, i32, i32, i32)
"""


def llvm(text: str) -> str:
    """PTX by LLVM's own back end, the one that kernels of this package go through."""
    from llvmlite import binding
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple("nvptx64-nvidia-cuda").create_target_machine(cpu="sm_90", features="+ptx78", opt=3)
    module = binding.parse_assembly(WORDS + text)
    module.verify()
    return machine.emit_assembly(module)


SAXPY = """define ptx_kernel void @kernel(ptr %x, ptr %y, i32 %n, float %a) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %c = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %nt = call i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
  %nc = call i32 @llvm.nvvm.read.ptx.sreg.nctaid.x()
  %c0 = mul i32 %c, %nt
  %start = add i32 %c0, %t
  %step = mul i32 %nt, %nc
  br label %test
test:
  %i = phi i32 [%start, %0], [%next, %body]
  %go = icmp slt i32 %i, %n
  br i1 %go, label %body, label %end
body:
  %xp = getelementptr float, ptr %x, i32 %i
  %yp = getelementptr float, ptr %y, i32 %i
  %xv = load float, ptr %xp
  %yv = load float, ptr %yp
  %r = call float @llvm.fma.f32(float %a, float %xv, float %yv)
  store float %r, ptr %yp
  %next = add i32 %i, %step
  br label %test
end:
  ret void
}
declare float @llvm.fma.f32(float, float, float)
"""


@pytest.mark.parametrize(("grid", "block"), [(1, 32), (3, 40), (20, 256)])
def test_a_loop_over_the_grid(grid, block):
    x, y = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    expected = y + 2 * x  # exact products: one rounding
    counters = ptx.run(llvm(SAXPY), grid, block, [x, ptx.InOut(y), 1000, 2.0])
    np.testing.assert_array_equal(y, expected)
    assert counters.global_store_bytes == 4000


SUM = """@partial = internal addrspace(3) global [32 x float] undef, align 4
define ptx_kernel void @kernel(ptr %x, ptr %out, i32 %n) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %in = icmp slt i32 %t, %n
  br i1 %in, label %load, label %sum
load:
  %xp = getelementptr float, ptr %x, i32 %t
  %xv = load float, ptr %xp
  br label %sum
sum:
  %v = phi float [%xv, %load], [0.0, %0]
""" + "".join(f"""  %b{d} = bitcast float %{s} to i32
  %o{d} = call i32 @llvm.nvvm.shfl.sync.down.i32(i32 -1, i32 %b{d}, i32 {d}, i32 31)
  %f{d} = bitcast i32 %o{d} to float
  %v{d} = fadd float %{s}, %f{d}
""" for s, d in (("v", 16), ("v16", 8), ("v8", 4), ("v4", 2), ("v2", 1))) + """  %lane = and i32 %t, 31
  %warp = lshr i32 %t, 5
  %first = icmp eq i32 %lane, 0
  br i1 %first, label %keep, label %meet
keep:
  %p = getelementptr float, ptr addrspace(3) @partial, i32 %warp
  store float %v1, ptr addrspace(3) %p
  br label %meet
meet:
  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)
  %zero = icmp eq i32 %t, 0
  br i1 %zero, label %last, label %end
last:
  br label %add
add:
  %w = phi i32 [0, %last], [%w1, %add]
  %s = phi float [0.0, %last], [%s1, %add]
  %q = getelementptr float, ptr addrspace(3) @partial, i32 %w
  %qv = load float, ptr addrspace(3) %q
  %s1 = fadd float %s, %qv
  %w1 = add i32 %w, 1
  %more = icmp ult i32 %w1, 8
  br i1 %more, label %add, label %store
store:
  store float %s1, ptr %out
  br label %end
end:
  ret void
}
"""


def test_a_sum_by_shuffles_and_shared_memory():
    for n in (256, 200, 1):
        x, out = np.arange(256, dtype=np.float32), np.empty(1, np.float32)
        counters = ptx.run(llvm(SUM), 1, 256, [x, ptx.Out(out), n])
        assert out[0] == x[:n].sum()
        assert (counters.barriers, counters.bank_conflicts) == (1, 0)
    text = llvm(SUM)
    with pytest.raises(ptx.SharedRace):
        ptx.run(text.replace("bar.sync", "// bar.sync").replace("barrier.sync", "// barrier.sync"), 1, 256, [x, ptx.Out(out), 256])


ATOMS = """define ptx_kernel void @kernel(ptr %x, ptr %out, ptr %d) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %xp = getelementptr float, ptr %x, i32 %t
  %v = load float, ptr %xp
  %b = and i32 %t, 3
  %p = getelementptr float, ptr %out, i32 %b
  %1 = atomicrmw fmax ptr %p, float %v monotonic
  %q = getelementptr i8, ptr %out, i32 16
  %2 = atomicrmw add ptr %q, i32 %t monotonic
  %r = getelementptr i8, ptr %out, i32 20
  %3 = atomicrmw umax ptr %r, i32 %t monotonic
  %e = fpext float %v to double
  %4 = atomicrmw fadd ptr %d, double %e monotonic
  %h = getelementptr i8, ptr %out, i32 24
  %n = trunc i32 %t to i8
  %5 = atomicrmw xor ptr %h, i8 %n monotonic
  ret void
}
"""


def test_atomics_and_the_loops_that_stand_for_them():
    """fmax and 8-bit atomics become loops of compare and swap."""
    x = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    out, d = np.zeros(7, np.uint32), np.zeros(1)
    out[:4] = np.full(4, -np.inf, np.float32).view("u4")
    ptx.run(llvm(ATOMS), 1, 100, [x, ptx.InOut(out), ptx.InOut(d)])
    np.testing.assert_array_equal(out[:4].view("f4"), [x[b::4].max() for b in range(4)])
    assert (out[4], out[5], out[6]) == (4950, 99, np.bitwise_xor.reduce(np.arange(100, dtype="u1")))
    np.testing.assert_allclose(d[0], x.astype("f8").sum(), rtol=1e-14)


CALLS = """define internal {i32, double} @two(i32 %a, double %b, [3 x i16] %z) noinline {
  %c = mul i32 %a, 3
  %d = fadd double %b, 1.0
  %e = extractvalue [3 x i16] %z, 1
  %f = zext i16 %e to i32
  %g = add i32 %c, %f
  %r = insertvalue {i32, double} undef, i32 %g, 0
  %s = insertvalue {i32, double} %r, double %d, 1
  ret {i32, double} %s
}
define internal float @square(float %x) noinline {
  %l = fcmp olt float %x, 2.0
  br i1 %l, label %a, label %b
a:
  ret float 5.0
b:
  %y = fmul float %x, %x
  ret float %y
}
declare i32 @printf_like(ptr)
define ptx_kernel void @kernel(ptr %p, ptr %q, i32 %speaks) {
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %g = sitofp i32 %t to double
  %z = insertvalue [3 x i16] zeroinitializer, i16 20, 1
  %r = call {i32, double} @two(i32 %t, double %g, [3 x i16] %z)
  %a = extractvalue {i32, double} %r, 0
  %b = extractvalue {i32, double} %r, 1
  %f = sitofp i32 %t to float
  %o = call float @square(float %f)
  %p1 = getelementptr i32, ptr %p, i32 %t
  store i32 %a, ptr %p1
  %q1 = getelementptr double, ptr %q, i32 %t
  %od = fpext float %o to double
  %s = fadd double %od, %b
  store double %s, ptr %q1
  %c = icmp eq i32 %speaks, %t
  br i1 %c, label %speak, label %end
speak:
  %x = call i32 @printf_like(ptr %p)
  br label %end
end:
  ret void
}
"""


def test_calls():
    a, b, t = np.empty(40, np.int32), np.empty(40), np.arange(40)
    text = llvm(CALLS)
    ptx.run(text, 1, 40, [ptx.Out(a), ptx.Out(b), -1])
    np.testing.assert_array_equal(a, 3 * t + 20)
    np.testing.assert_array_equal(b, np.where(t < 2, 5, t * t) + t + 1.0)
    with pytest.raises(ptx.Unsupported, match=r"(?s)a call of printf_like, which has no body.*thread \(5, 0, 0\)"):
        ptx.run(text, 1, 40, [ptx.Out(a), ptx.Out(b), 5])


SORT = """define ptx_kernel void @kernel(ptr %x, ptr %out) {
  %own = alloca [8 x i32], align 16
  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %row = mul i32 %t, 8
  br label %fill
fill:
  %i = phi i32 [0, %0], [%i1, %fill]
  %k = add i32 %row, %i
  %xp = getelementptr i32, ptr %x, i32 %k
  %v = load volatile i32, ptr %xp
  %op = getelementptr i32, ptr %own, i32 %i
  store volatile i32 %v, ptr %op
  %i1 = add i32 %i, 1
  %m = icmp ult i32 %i1, 8
  br i1 %m, label %fill, label %pick
pick:
  %s = load i32, ptr %own
  %s7 = and i32 %s, 7
  %sp = getelementptr i32, ptr %own, i32 %s7
  %r = load i32, ptr %sp
  %case = urem i32 %r, 5
  switch i32 %case, label %end [ i32 0, label %c0
    i32 1, label %c1
    i32 2, label %c2
    i32 3, label %c3 ]
c0:
  %r0 = mul i32 %r, 7
  br label %end
c1:
  %r1 = add i32 %r, 1000
  br label %end
c2:
  %r2 = xor i32 %r, -1
  br label %end
c3:
  %r3 = lshr i32 %r, 1
  br label %end
end:
  %y = phi i32 [%r, %pick], [%r0, %c0], [%r1, %c1], [%r2, %c2], [%r3, %c3]
  %yp = getelementptr i32, ptr %out, i32 %t
  store i32 %y, ptr %yp
  ret void
}
"""


def test_local_arrays_and_a_switch():
    x, out = np.random.default_rng(5).integers(0, 1000, (40, 8)).astype(np.uint32), np.empty(40, np.uint32)
    counters = ptx.run(llvm(SORT), 1, 40, [x, ptx.Out(out)])
    r = x[np.arange(40), x[:, 0] % 8]
    np.testing.assert_array_equal(out, np.choose(r % 5, [r * 7, r + 1000, ~r, r >> 1, r]))
    assert counters.local_accesses == 40 * 10
    assert "brx.idx" in llvm(SORT)


RNG = np.random.default_rng(11)
SCALARS = {  # an expression of LLVM on x (and y), and NumPy's
    "i8": ("i8", "%a = mul i8 %x, 3\n %b = sdiv i8 %a, 5\n %c = ashr i8 %y, 2\n %r = add i8 %b, %c",
           lambda x, y: (np.trunc((x * np.int8(3)) / 5)).astype("i1") + (y >> np.int8(2))),
    "i16": ("i16", "%a = urem i16 %x, 77\n %b = icmp slt i16 %x, %y\n %r = select i1 %b, i16 %a, i16 %y",
            lambda x, y: np.where(x < y, (x.view("u2") % np.uint16(77)).view("i2"), y)),
    "i64": ("i64", "%o = or i64 %y, 1\n %a = sdiv i64 %x, %o\n %b = srem i64 %x, %o\n %c = mul i64 %a, 31\n %r = xor i64 %b, %c",
            lambda x,
                y: (lambda q: (x - q * (y | 1)) ^ (q * 31))(np.array([int(abs(int(a)) // abs(int(b))) * (1 if (a < 0) == (b < 0) else -1)
                                                                           for a, b in zip(x, y | 1, strict=True)]))),
    "bits": ("i32", "%a = call i32 @llvm.bswap.i32(i32 %x)\n %b = call i32 @llvm.bitreverse.i32(i32 %y)\n "
                    "%c = call i32 @llvm.fshl.i32(i32 %a, i32 %b, i32 9)\n %d = call i32 @llvm.ctlz.i32(i32 %x, i1 false)\n "
                    "%e = call i32 @llvm.cttz.i32(i32 %y, i1 false)\n %f = call i32 @llvm.ctpop.i32(i32 %c)\n %g = shl i32 %d, 8\n "
                    "%h = shl i32 %e, 16\n %i = or i32 %f, %g\n %r = or i32 %i, %h",
             lambda x, y: np.array([int.bit_count((int.from_bytes(int(a).to_bytes(4, "little"), "big") << 9 | int(f"{b:032b}"[::-1],
                 2) >> 23)
                                                  & 0xFFFFFFFF) | 32 - int(a).bit_length() << 8 | (int(b) & -int(b)).bit_length() - 1 << 16
                                    for a, b in zip(x.view("u4").tolist(), y.view("u4").tolist(), strict=True)], "u4").view("i4")),
    "half": ("half", "%a = fmul half %x, %y\n %b = fadd half %a, 1.0\n %r = fsub half %b, %y", lambda x, y: x * y + np.float16(1) - y),
    "float": ("float", "%a = call float @llvm.floor.f32(float %x)\n %b = call float @llvm.minimum.f32(float %a, float %y)\n "
                       "%c = call float @llvm.copysign.f32(float %b, float %x)\n %d = fcmp ult float %c, %y\n "
                       "%e = select i1 %d, float %c, float %y\n %s = call float @llvm.fabs.f32(float %e)\n "
                       "%q = call float @llvm.sqrt.f32(float %s)\n %r = fdiv float %q, %y",
              lambda x, y: (lambda c: np.sqrt(np.abs(np.where(c < y, c, y))) / y)(np.copysign(np.minimum(np.floor(x), y), x))),
    "double": ("double", "%a = fdiv double %x, %y\n %b = call double @llvm.rint.f64(double %a)\n %c = fptosi double %b to i64\n "
                         "%d = sitofp i64 %c to double\n %e = fptrunc double %x to float\n %f = fpext float %e to double\n "
                         "%r = fsub double %d, %f", lambda x, y: np.rint(x / y).astype("i8").astype("f8") - x.astype("f4").astype("f8")),
    "saturating": ("float", "%a = fmul float %x, 1.0e9\n %b = call i32 @llvm.fptosi.sat.i32.f32(float %a)\n %c = sitofp i32 %b to float\n "
                            "%r = fadd float %c, %y",
                   lambda x, y: np.clip(np.trunc((x * np.float32(1e9)).astype("f8")), -2 ** 31, 2 ** 31 - 1).astype("i4").astype("f4") + y),
}
DECLARED = """declare i32 @llvm.bswap.i32(i32)
declare i32 @llvm.bitreverse.i32(i32)
declare i32 @llvm.fshl.i32(i32, i32, i32)
declare i32 @llvm.ctlz.i32(i32, i1)
declare i32 @llvm.cttz.i32(i32, i1)
declare i32 @llvm.ctpop.i32(i32)
declare float @llvm.floor.f32(float)
declare float @llvm.minimum.f32(float, float)
declare float @llvm.copysign.f32(float, float)
declare float @llvm.fabs.f32(float)
declare float @llvm.sqrt.f32(float)
declare double @llvm.rint.f64(double)
declare i32 @llvm.fptosi.sat.i32.f32(float)
"""


@pytest.mark.parametrize(("kind", "body", "f"), SCALARS.values(), ids=SCALARS.keys())
def test_scalars_through_llvm(kind, body, f):
    dtype = np.dtype({"half": "f2", "float": "f4", "double": "f8"}.get(kind, f"i{int(kind[1:] or 8) // 8 if kind[0] == 'i' else 0}"))
    if dtype.kind == "f":
        x, y = (RNG.standard_normal(64) * 8).astype(dtype), (RNG.standard_normal(64) * 4).astype(dtype)
    else:
        x, y = (RNG.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, 64, dtype) for _ in range(2))
    text = llvm(f"""define ptx_kernel void @kernel(ptr %in1, ptr %in2, ptr %out) {{
 %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
 %pp = getelementptr {kind}, ptr %in1, i32 %t
 %x = load {kind}, ptr %pp
 %qp = getelementptr {kind}, ptr %in2, i32 %t
 %y = load {kind}, ptr %qp
 {body}
 %op = getelementptr {kind}, ptr %out, i32 %t
 store {kind} %r, ptr %op
 ret void
}}
{DECLARED}""")
    out = np.empty(64, dtype)
    ptx.run(text, 1, 64, [x, y, ptx.Out(out)])
    same(out, f(x, y).astype(dtype))


GOLDEN = Path(__file__).parent / "golden" / "ptx"  # Numba-CUDA's own, made by NVVM 13.0


def test_numba_softmax():
    text = (GOLDEN / "softmax4096.ptx").read_text()
    x, out = (np.random.default_rng(0).standard_normal((8, 4096)) * 3).astype(np.float32), np.empty((8, 4096), np.float32)
    counters = ptx.run(text, 8, 256, [x, ptx.Out(out)])
    e = np.exp(x.astype("f8") - x.max(1, keepdims=True))
    np.testing.assert_allclose(out, e / e.sum(1, keepdims=True), rtol=2e-6)
    assert counters.coalesced and counters.bank_conflicts == 0 and counters.barriers == 3 * 8
    assert counters.global_load_sectors == x.nbytes // 32
    for i, place in enumerate(m.start() for m in re.finditer("bar.sync", text)):  # each of its barriers is needed
        broken = text[:place] + "// " + text[place:]
        with pytest.raises(ptx.SharedRace):
            ptx.run(broken, 8, 256, [x, ptx.Out(out)])
            pytest.fail(f"nothing said without barrier {i}")


@pytest.mark.parametrize(("rows", "columns"), [(64, 96), (100, 75), (1, 1), (33, 32)])
def test_numba_transposition(rows, columns):
    x, out = np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32), np.empty((columns, rows), np.float32)
    grid = (-(-columns // 32), -(-rows // 32))
    counters = ptx.run((GOLDEN / "transpose.ptx").read_text(), grid, (32, 8), [x, ptx.Out(out), rows, columns])
    np.testing.assert_array_equal(out, x.T)
    assert counters.bank_conflicts == 0
    if rows % 32 == columns % 32 == 0:
        assert counters.coalesced
    with pytest.raises((ptx.OutOfBounds, ptx.UninitializedRead)):
        ptx.run((GOLDEN / "transpose.ptx").read_text(), (grid[0], grid[1] + 1), (32, 8), [x, ptx.Out(out), rows + 32, columns])


def test_numba_sum():
    x, out = np.random.default_rng(0).standard_normal(100000).astype(np.float32), np.empty(32, np.float32)
    counters = ptx.run((GOLDEN / "rsum.ptx").read_text(), 32, 256, [x, ptx.Out(out), x.size // 4])
    np.testing.assert_allclose(out.sum(dtype="f8"), x.sum(dtype="f8"), rtol=1e-4, atol=1e-3)
    assert counters.coalesced


@pytest.mark.parametrize("text", [SAXPY, SUM, ATOMS, SORT])
def test_the_assembler_accepts_what_llvm_makes(text, tmp_path):
    assembles(llvm(text), tmp_path)


# At random: `python tests/ptx_fuzz.py 0 1000` takes more of both -----------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(10))
def test_random_functions_give_what_the_processor_gives(seed):
    made, rows = ptx_fuzz.Program(seed, 50), ptx_fuzz.inputs(seed)
    expected = ptx_fuzz.on_the_processor(made, rows)
    for optimise in (False, True):
        np.testing.assert_array_equal(ptx_fuzz.on_the_emulator(ptx_fuzz.to_ptx(made, optimise), rows), expected)


@pytest.mark.parametrize("seeds", [range(i, i + 25) for i in range(0, 150, 25)], ids=lambda r: f"{r.start}-{r.stop - 1}")
def test_races_are_those_of_all_pairs(seeds):
    kinds = {ptx.SharedRace: "shared", ptx.GlobalRace: "global"}
    for seed in seeds:
        body, blocks, threads, expected = ptx_fuzz.race_case(seed)
        found = None
        try:
            ptx.run(kernel(body), blocks, threads, [ptx.InOut(np.zeros(1024, np.uint8))])
        except (ptx.SharedRace, ptx.GlobalRace) as error:
            found = kinds[type(error)]
        assert found == expected, f"race_case({seed})"
