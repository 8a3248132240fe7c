"""The native plan runner: every instruction, threads, interrupts, fork."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from graphflow.codegen.compile import compile_kernels
from graphflow.runtime import runner, threads
from graphflow.runtime.runner import (AT_HOST, CALL, CHECK, CHECK_FAILED, COMMIT, COPY, DONE, HALT, HOST,
                                      INTERRUPTED, JUMP, JUMP_IF_FALSE, PARALLEL_FOR, REASON, THREADS)

ROOT = Path(__file__).parents[1]
DOUBLE = """
def kernel(B, S, lo, hi):
    a = buf(B, 0)
    b = buf(B, 1)
    for i in range(lo, hi):
        st_f32(b, i, ld_f32(a, i, 0) * np.float32(2), 1)
    return 0
"""
COUNT = """
def kernel(B, S, lo, hi):
    a = buf(B, 0)
    for i in range(lo, hi):
        st_i64(a, i, ld_i64(a, i, 0) + 1, 0)
    return 0
"""
RANGES = """
def kernel(B, S, lo, hi):
    a = buf(B, 0)
    st_i64(a, lo, hi, 0)
    return 0
"""
FAIL = """
def kernel(B, S, lo, hi):
    for i in range(lo, hi):
        if i >= 500:
            return 42
    return 0
"""


KEEP = []                                     # what the plans of all tests point to


class Plan:
    """Instructions under construction."""

    def __init__(self):
        self.words = []

    def add(self, opcode, fn=0, buffers=0, sizes=0, extent=0, grain=0, aux=0):
        self.words.append([opcode, fn, buffers, sizes, extent, grain, aux, 0])
        return self

    def call(self, text, *arrays, extent, grain=0):
        table = (ctypes.c_void_p * max(len(arrays), 1))(*[a.ctypes.data for a in arrays])
        KEEP.append((table, arrays))
        return self.add(CALL, compile_kernels([text])[0], ctypes.addressof(table), 0, extent, grain)

    @property
    def code(self):
        return np.array(self.words + [[HALT] + [0] * 7], np.int64)


def reason(state):
    return int(state[REASON])


def test_halt_and_empty_plan():
    state = runner.make_state()
    assert runner.execute(Plan().code, 0, state) == 0 and reason(state) == DONE


def test_calls_run_in_order():
    a, b, c = (np.arange(100, dtype=np.float32) for _ in range(3))
    plan = Plan().call(DOUBLE, a, b, extent=100).call(DOUBLE, b, c, extent=100)
    assert runner.execute(plan.code, 0, runner.make_state()) == 2
    assert (c == a * 4).all()


def test_host_returns_and_resumes():
    counts, state = np.zeros(1, np.int64), runner.make_state()
    code = Plan().call(COUNT, counts, extent=1).add(HOST).call(COUNT, counts, extent=1).code
    assert runner.execute(code, 0, state) == 1 and reason(state) == AT_HOST and counts[0] == 1
    assert runner.execute(code, 2, state) == 3 and reason(state) == DONE and counts[0] == 2


def test_jumps():
    counts, flag = np.zeros(1, np.int64), np.zeros(1, np.uint8)
    plan = Plan().add(JUMP_IF_FALSE, buffers=flag.ctypes.data, aux=2).add(JUMP, aux=3)
    plan.call(COUNT, counts, extent=1)
    for value, expected in ((0, 1), (1, 1)):
        flag[0] = value
        assert runner.execute(plan.code, 0, runner.make_state()) == 3
        assert counts[0] == expected


def test_copy_also_overlapping():
    a = np.arange(10, dtype=np.int64)
    plan = Plan().add(COPY, buffers=a.ctypes.data + 8, sizes=a.ctypes.data, extent=72)
    runner.execute(plan.code, 0, runner.make_state())
    assert a.tolist() == [0, *range(9)]


def test_an_unknown_opcode_returns_to_python():
    state = runner.make_state()
    assert runner.execute(Plan().add(77).code, 0, state) == 0 and reason(state) == AT_HOST


@pytest.mark.parametrize("team", [1, 2])
def test_a_failed_check_stops_the_plan(team):
    counts, state = np.zeros(1, np.int64), runner.make_state(team)
    plan = Plan().call(FAIL, extent=1000, grain=10).call(COUNT, counts, extent=1)
    assert runner.execute(plan.code, 0, state) == 0
    assert (reason(state), state[CHECK], counts[0]) == (CHECK_FAILED, 42, 0)


def test_arrays_that_are_no_plan_are_refused():
    with pytest.raises(TypeError):
        runner.execute(np.zeros(8, np.int32), 0, runner.make_state())
    with pytest.raises(ValueError):
        runner.execute(np.zeros(7, np.int64), 0, runner.make_state())


# ---- threads ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("extent", [1, 9, 10, 11, 99, 1000, 1001])
def test_pieces_are_contiguous_and_start_at_grains(extent):
    ends = np.full(extent, -1, np.int64)
    runner.execute(Plan().call(RANGES, ends, extent=extent, grain=10).code, 0, runner.make_state(2))
    starts = np.flatnonzero(ends >= 0)
    assert starts[0] == 0 and (starts % 10 == 0).all()
    assert [*starts[1:], extent] == ends[starts].tolist()
    assert len(starts) == (-(-extent // 10) if threads.layer() and threads.available() > 1 else 1)


def test_threads_give_the_same_result():
    a = np.random.default_rng(0).standard_normal(100_003).astype(np.float32)
    b = np.zeros_like(a)
    for _ in range(50):
        runner.execute(Plan().call(DOUBLE, a, b, extent=a.size, grain=64).code, 0, runner.make_state(2))
    assert (b == a * 2).all()


def several_sessions_at_once():
    def session():
        a = np.ones(5000, np.float32)
        b, state = np.zeros_like(a), runner.make_state(2)
        code = Plan().call(DOUBLE, a, b, extent=5000, grain=16)
        for _ in range(300):
            b[:] = 0
            runner.execute(code.code, 0, state)
            good.append(bool((b == 2).all()))
    good = []
    team = [threading.Thread(target=session) for _ in range(4)]
    [t.start() for t in team]
    [t.join() for t in team]
    return len(good) == 1200 and all(good)


def test_several_sessions_at_once():
    assert several_sessions_at_once()


CHILD = """
import sys; sys.path.insert(0, {tests!r})
import test_runner as t
assert t.threads.layer() is None or t.threads.layer().name == {name!r}, t.threads.layer()
assert t.several_sessions_at_once()
t.test_threads_give_the_same_result()
"""


@pytest.mark.parametrize("name", ["workqueue", "omppool", "tbbpool"])
def test_each_layer(name):
    environment = {**os.environ, "GRAPHFLOW_THREADING_LAYER": name, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", CHILD.format(tests=str(Path(__file__).parent), name=name)],
                   env=environment, check=True, timeout=120)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_runs_serially():
    a = np.ones(5000, np.float32)
    b, state = np.zeros_like(a), runner.make_state(2)
    code = Plan().call(DOUBLE, a, b, extent=5000, grain=16)
    runner.execute(code.code, 0, state)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        b[:] = 0
        runner.execute(code.code, 0, state)
        fine = (b == 2).all() and state[PARALLEL_FOR] == 0 and runner.make_state(2)[THREADS] == 1
        runner.execute_interruptible(code.code, 0, state)
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    runner.execute(code.code, 0, state)
    assert (b == 2).all()


# ---- stopping ---------------------------------------------------------------------------------------

def forever(commit=False):
    plan = Plan()
    plan.add(COMMIT) if commit else plan.add(JUMP, aux=1)
    return plan.add(JUMP, aux=1).code


def test_interrupt_from_another_thread():
    state = runner.make_state()
    threading.Timer(0.1, runner.interrupt, [state]).start()
    runner.execute(forever(), 0, state)
    assert reason(state) == INTERRUPTED


def test_a_timeout_stops_the_plan_and_the_state_works_again():
    state, start = runner.make_state(), time.monotonic()
    runner.execute_interruptible(forever(), 0, state, timeout_s=0.1)
    assert reason(state) == INTERRUPTED and time.monotonic() - start < 5
    runner.execute_interruptible(Plan().code, 0, state)
    assert reason(state) == DONE


def test_after_commit_the_plan_runs_to_its_end():
    counts, state = np.zeros(1, np.int64), runner.make_state()
    runner.interrupt(state)
    code = Plan().call(COUNT, counts, extent=1).code
    runner.execute(code, 0, state)
    assert reason(state) == INTERRUPTED and counts[0] == 0
    flag = np.zeros(1, np.uint8)
    code = Plan().add(COMMIT).add(JUMP_IF_FALSE, buffers=flag.ctypes.data, aux=1).call(COUNT, counts, extent=1).code
    state = runner.make_state()
    threading.Timer(0.3, flag.fill, [1]).start()
    runner.execute_interruptible(code, 0, state, timeout_s=0.05)
    assert reason(state) == DONE and counts[0] == 1


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_control_c_stops_a_running_plan():
    state = runner.make_state()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
    try:
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            runner.execute_interruptible(forever(), 0, state)
    finally:
        signal.signal(signal.SIGINT, before)
    assert reason(state) == INTERRUPTED and state[runner.INTERRUPT] == 0


def test_timing_brackets_each_instruction():
    a, state = np.ones(10_000, np.float32), runner.make_state()
    code = Plan().call(DOUBLE, a, a.copy(), extent=10_000).call(DOUBLE, a, a.copy(), extent=10).code
    ticks = np.zeros(2 * len(code), np.int64)
    runner.set_timing(state, ticks)
    runner.execute(code, 0, state)
    spent = ticks[1::2] - ticks[::2]
    assert spent[0] > 0 and spent[1] > 0


def test_bound_runs_keep_their_arrays():
    run = runner.bind(Plan().code.copy(), runner.make_state())
    assert run(0) == 0
