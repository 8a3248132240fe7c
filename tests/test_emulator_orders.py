"""Generated kernels while warps and blocks of the emulator run in other orders, with one of their waits missing, and with the errors that
hardware may make: the same bits; a refusal for each wait.
"""
from __future__ import annotations

import re

import numpy as np
import pytest
from ptx_cases import kernel

import graphflow as tf
from graphflow.flags import flags
from graphflow.testing import emulated_gpu, ptx
from graphflow.testing.gpu import EmulatedDriver

P, f = tf.placeholder, tf.float32
ORDERS = ["reverse", 0, 1]
NOT_SEEN = ptx.Checks().without("shared_races", "global_races", "uninitialized")
WAITS = re.compile(r"^\s*(bar\.sync|bar\.warp\.sync|cp\.async\.wait_group|cp\.async\.commit_group)[^;\n]*;", re.M)


def norm(x):
    mean, variance = tf.nn.moments(x, [0, 1, 2], keep_dims=True)
    return (x - mean) * tf.rsqrt(variance + 1e-3)


def picked():
    """A sum that one warp computes at a row's places, and then reads again from memory."""
    hot = tf.one_hot(P(tf.int32, [15]), 10)
    y = tf.matmul(hot, P(f, [10, 40]))
    return [y, tf.identity(y)]


KERNELS = {
    "softmax": lambda: tf.nn.softmax(P(f, [2, 1100])), "rows_of_a_warp": lambda: tf.nn.softmax(P(f, [9, 100])),
    "running_rows": lambda: tf.cumsum(P(f, [2, 300]), 1), "running_columns": lambda: tf.cumsum(P(f, [100, 12]), 0),
    "columns": lambda: tf.reduce_sum(P(f, [300, 33]), 0), "everything": lambda: tf.reduce_sum(P(f, [200, 200])),
    "transposed": lambda: tf.transpose(P(f, [40, 50])), "through_memory": lambda: norm(P(f, [3, 5, 5, 8])), "picked": picked,
    "product": lambda: tf.matmul(P(f, [33, 40]), P(f, [40, 17])),
    "tensor_cores": lambda: tf.matmul(P(tf.bfloat16, [24, 200]), P(tf.bfloat16, [200, 40])),
    "tensor_cores_by_registers": lambda: tf.matmul(P(tf.float16, [17, 77]), P(tf.float16, [77, 35])),
}


def run(name: str, change=None, **options) -> tuple[list[str], list[np.ndarray]]:
    """(PTX texts, results) of a kernel; `change` is made to its texts."""
    seen: list[str] = []
    link = EmulatedDriver.link

    def changed(self, text, label=""):
        text = text.decode() if isinstance(text, bytes) else text
        seen.append(text)
        return link(self, text if change is None else change(text), label)
    with pytest.MonkeyPatch.context() as patch, tf.Graph().as_default() as g, flags.override(early=0), emulated_gpu(**options):
        patch.setattr(EmulatedDriver, "link", changed)
        fetches = KERNELS[name]()
        rng, feeds = np.random.default_rng(0), {}
        for t in (o.outputs[0] for o in g.get_operations() if o.type == "Placeholder"):
            feeds[t] = rng.integers(0, 5, t.shape.as_list()) if t.dtype.is_integer else rng.standard_normal(t.shape.as_list())
        with tf.Session() as sess:
            found = sess.run(fetches, feeds)
    return seen, [np.asarray(a) for a in (found if isinstance(found, list) else [found])]


@pytest.mark.parametrize("name", KERNELS)
def test_the_same_bits_in_every_order(name):
    _, wanted = run(name)
    for order in ORDERS:
        _, found = run(name, order=order)
        for a, b in zip(wanted, found, strict=True):
            assert a.tobytes() == b.tobytes(), order


@pytest.mark.parametrize("name", KERNELS)
def test_every_wait_is_needed_and_missed(name):
    """Each barrier and each step of a copy is taken out in turn, and each wait made to let one more copy be on its way."""
    texts, _ = run(name)
    for text in dict.fromkeys(texts):
        for m in WAITS.finditer(text):
            more = re.sub(r"\d+;", lambda n: f"{int(n[0][:-1]) + 1};", m[0])
            for new in ("", *[more] * ("wait" in m[0])):
                broken = text[:m.start()] + new + text[m.end():]
                with pytest.raises((ptx.SharedRace, ptx.GlobalRace, ptx.UninitializedRead)):
                    run(name, change=lambda t, broken=broken, text=text: broken if t == text else t)


def test_values_of_a_kernel_without_its_barriers_depend_on_the_order():
    for name in ("softmax", "running_columns", "transposed", "product", "tensor_cores_by_registers"):
        found = [run(name, change=lambda t: WAITS.sub("", t), order=o, checks=NOT_SEEN)[1][0].tobytes() for o in ("forward", "reverse")]
        assert len({*found, run(name)[1][0].tobytes()}) > 1, name


MEETING = """
  .reg .pred %p9;
  .shared .align 4 .b8 cell[128];
  mov.u32 %r1, %laneid;
  mov.u32 %r3, cell;
  shl.b32 %r4, %r1, 2;
  add.u32 %r5, %r3, %r4;
  st.shared.u32 [%r5], %r1;
  WAIT
  xor.b32 %r6, %r4, 124;
  add.u32 %r6, %r3, %r6;
  ld.shared.u32 %r0, [%r6];
  add.u64 %q15, %a, %i4; st.global.b32 [%q15], %r0;
"""


def test_warps_are_torn_apart_by_odd_numbers():
    """Lanes that read each other's writes: bar.warp.sync orders them, nothing else does."""
    def found(wait: str, order, checks=ptx.Checks()):
        out = np.empty(32, np.uint32)
        ptx.run(kernel(MEETING.replace("WAIT", wait), "a"), 1, 32, [ptx.Out(out)], order=order, checks=checks)
        return out
    for order in (None, *ORDERS):
        np.testing.assert_array_equal(found("bar.warp.sync 0xffffffff;", order), np.arange(32)[::-1])
    with pytest.raises(ptx.SharedRace):
        found("", 0)
    assert (found("", 0, NOT_SEEN) == np.arange(32)[::-1]).all() and (found("", 1, NOT_SEEN) != np.arange(32)[::-1]).any()


def test_an_order_that_is_none():
    with pytest.raises(ValueError, match='"forward", "reverse", a number'):
        emulated_gpu(order="backwards").__enter__()
    with pytest.raises(ValueError, match="got -1"):
        with ptx.in_order(-1):
            pass


def test_errors_are_those_of_the_operands():
    text = kernel("""
      add.u64 %q14, %a, %i4; ld.global.b32 %r1, [%q14]; div.full.f32 %r0, %r1, 0f40400000;
      add.u64 %q15, %b, %i4; st.global.b32 [%q15], %r0;
    """, "ab")
    x = np.random.default_rng(0).standard_normal(512).astype(np.float32)
    x[7:9] = 0.0, np.inf
    outs = []
    for seed in (None, 5, 5, 6):
        out = np.empty(512, np.float32)
        with ptx.imprecise(seed):
            ptx.run(text, 2, 256, [x, ptx.Out(out)])
        outs.append(out)
    units = (outs[1].view("i4") - outs[0].view("i4"))[np.isfinite(outs[0])]
    assert (outs[0] == x / np.float32(3)).all() and set(units) == {-2, -1, 0, 1, 2} and outs[1][7] == 0 and outs[1][8] == np.inf
    assert outs[1].tobytes() == outs[2].tobytes() != outs[3].tobytes()
