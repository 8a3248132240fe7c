"""The native loop that runs a whole plan in one call.

Knows: the instruction words, the state words, how a CALL is split over threads, how a run is stopped.
Must not know: graphs, tensors, what a kernel computes, how a plan was made. Place: the session builds a
plan (an int64 array), makes a state, and calls `execute`; on HOST it does the Python work and resumes at
pc + 1.

The loop is itself kernel text, compiled and cached as any kernel: `kernel(B, S, lo, hi)` receives the
plan as B, the state as S, the pc as lo, and returns the pc where it stopped. So is the trampoline that a
threading layer calls: its four pointer arguments have the same machine form.
"""

import ctypes
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from functools import cache, partial

import numpy as np

from graphflow.codegen.compile import compile_kernels
from graphflow.runtime import threads as _threads

# An instruction is 8 int64 words.
OPCODE, FN, BUFFERS, SIZES, EXTENT, GRAIN, AUX, RESERVED = range(8)
WORDS = 8
HALT, CALL, HOST, JUMP, JUMP_IF_FALSE, COMMIT, COPY = range(7)

# State words.
REASON, CHECK, INTERRUPT, THREADS, PARALLEL_FOR, TIMING, TRAMPOLINE, GATE, COMMITTED, STOP_PC = range(10)
STATE_WORDS = 16
DONE, AT_HOST, CHECK_FAILED, INTERRUPTED = range(4)

_RUN = """\
# plan runner
BIG = np.int64(0x7FFFFFFFFFFFFFFF)
def kernel(B, S, lo, hi):
    code = address(function_table(B))
    st = size_table(S)
    pc = to_i64(to_i32(lo))
    if pc == 0:
        st_i64(st, 8, 0, 99)
    args = stack_i64(1)
    dims = stack_i64(1)
    steps = stack_i64(1)
    data = stack_i64(8)
    st_i64(args, 0, 1, 99)
    st_i64(steps, 0, 1, 99)
    while True:
        at = code + pc * 64
        ins = pointer(at)
        op = ld_i64(ins, 0, 99)
        if ld_i64(st, 8, 99) == 0 and load_volatile(address(st) + 16) != 0:
            st_i64(st, 0, 3, 99)
            return pc
        timing = ld_i64(st, 5, 99)
        if timing != 0:
            st_i64(pointer(timing), 2 * pc, cycles(), 99)
        following = pc + 1
        if op == 1:
            fn = ld_i64(ins, 1, 99)
            buffers = ld_i64(ins, 2, 99)
            sizes = ld_i64(ins, 3, 99)
            extent = ld_i64(ins, 4, 99)
            grain = ld_i64(ins, 5, 99)
            team = ld_i64(st, 3, 99)
            launch = ld_i64(st, 4, 99)
            if grain > 0 and extent > grain and team > 1 and launch != 0:
                gate = ld_i64(st, 7, 99)
                if gate != 0 and atomic_swap(gate, 1) != 0:
                    failed = call_kernel(fn, buffers, sizes, 0, extent)
                else:
                    chunks = (extent + grain - 1) // grain
                    parts = min(team, chunks)
                    st_i64(dims, 0, parts, 99)
                    st_i64(data, 0, fn, 99)
                    st_i64(data, 1, buffers, 99)
                    st_i64(data, 2, sizes, 99)
                    st_i64(data, 3, extent, 99)
                    st_i64(data, 4, grain, 99)
                    st_i64(data, 5, chunks, 99)
                    st_i64(data, 6, parts, 99)
                    st_i64(data, 7, BIG, 99)
                    call_parallel_for(launch, ld_i64(st, 6, 99), address(args), address(dims),
                                      address(steps), address(data), parts)
                    if gate != 0:
                        atomic_swap(gate, 0)
                    failed = ld_i64(data, 7, 99)
                    if failed == BIG:
                        failed = 0
            else:
                failed = call_kernel(fn, buffers, sizes, 0, extent)
            if failed != 0:
                st_i64(st, 0, 2, 99)
                st_i64(st, 1, failed, 99)
                return pc
        elif op == 3:
            following = ld_i64(ins, 6, 99)
        elif op == 4:
            if ld_u8(pointer(ld_i64(ins, 2, 99)), 0, 99) == 0:
                following = ld_i64(ins, 6, 99)
        elif op == 5:
            st_i64(st, 8, 1, 99)
        elif op == 6:
            copy_bytes(ld_i64(ins, 2, 99), ld_i64(ins, 3, 99), ld_i64(ins, 4, 99))
        else:
            st_i64(st, 0, select(op == 0, 0, 1), 99)
            return pc
        if timing != 0:
            st_i64(pointer(timing), 2 * pc + 1, cycles(), 99)
        pc = following
"""

# A layer hands over (args, dims, steps, data): args[0] - 1 is the first part, dims[0] how many parts.
_TRAMPOLINE = """\
# thread trampoline
def kernel(B, S, lo, hi):
    first = address(buf(B, 0)) - 1
    count = size(S, 0)
    data = pointer(hi)
    fn = ld_i64(data, 0, 99)
    buffers = ld_i64(data, 1, 99)
    sizes = ld_i64(data, 2, 99)
    extent = ld_i64(data, 3, 99)
    grain = ld_i64(data, 4, 99)
    chunks = ld_i64(data, 5, 99)
    parts = ld_i64(data, 6, 99)
    for part in range(first, first + count):
        begin = part * chunks // parts * grain
        end = min((part + 1) * chunks // parts * grain, extent)
        if begin < end:
            failed = call_kernel(fn, buffers, sizes, begin, end)
            if failed != 0:
                atomic_min(hi + 56, failed)
    return 0
"""


@cache
def _native() -> tuple:
    """(run as a C function, address of the trampoline)."""
    run, trampoline = compile_kernels([_RUN, _TRAMPOLINE])
    return ctypes.CFUNCTYPE(ctypes.c_int64)(run), trampoline


# ---- states -----------------------------------------------------------------------------------------

_states: "weakref.WeakValueDictionary[int, np.ndarray]" = weakref.WeakValueDictionary()


def make_state(threads: int = 1) -> np.ndarray:
    """A state for `execute`; one run at a time may use it. `threads` above what the layer has are cut."""
    state = np.zeros(STATE_WORDS, np.int64)
    state[THREADS] = 1
    layer = _threads.layer() if threads > 1 else None
    if layer is not None:
        state[THREADS], state[PARALLEL_FOR] = min(threads, layer.most), layer.parallel_for
        state[TRAMPOLINE] = _native()[1]
        state[GATE] = ctypes.addressof(layer.gate) if layer.gate is not None else 0
        _states[id(state)] = state
    return state


def interrupt(state: np.ndarray) -> None:
    """Ask the run using `state` to stop before its next instruction (not after COMMIT). Any thread may."""
    state[INTERRUPT] = 1


def reset(state: np.ndarray) -> None:
    """Forget the last run's outcome, COMMIT and interrupt; threads and timing stay. A run from pc 0
    forgets COMMIT by itself."""
    state[REASON] = state[CHECK] = state[INTERRUPT] = state[COMMITTED] = 0


def set_timing(state: np.ndarray, ticks: np.ndarray | None) -> None:
    """Fill int64 `ticks[2 * pc]`, `[2 * pc + 1]` around each instruction. The caller keeps it alive."""
    state[TIMING] = 0 if ticks is None else ticks.ctypes.data


def _serial_after_fork() -> None:
    for state in list(_states.values()):
        state[PARALLEL_FOR] = state[GATE] = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_serial_after_fork)


# ---- running ----------------------------------------------------------------------------------------

def bind(code: np.ndarray, state: np.ndarray) -> Callable[[int], int]:
    """`execute` for one plan and state with the addresses taken once: `run(pc)` costs about 0.25 us.

    ctypes converts declared arguments slowly, so the addresses are ready-made objects and `pc` goes as
    the C int it is. The GIL is released while the plan runs.
    """
    _check_words(code, state)
    plan, words = ctypes.c_void_p(code.ctypes.data), ctypes.c_void_p(state.ctypes.data)
    plan.keep, words.keep = code, state  # type: ignore[attr-defined]  # alive as long as the bound call is
    return partial(_native()[0], plan, words)


def execute(code: np.ndarray, pc: int, state: np.ndarray) -> int:
    """Run from `pc` until the plan stops; returns the pc it stopped at, state[REASON] says why."""
    return bind(code, state)(pc)


def execute_interruptible(code: np.ndarray, pc: int, state: np.ndarray, timeout_s: float | None = None) -> int:
    """`execute` that Ctrl-C or a timeout stops between two instructions; for plans that run long.

    The plan runs on another thread while this one waits where signals are handled. A timeout returns with
    state[REASON] == INTERRUPTED; KeyboardInterrupt is raised again once the plan has stopped. After COMMIT
    a plan runs to its end first, and state[REASON] is DONE.
    """
    work = _Work(bind(code, state), pc)
    _submit(work)
    try:
        if not work.wait(timeout_s):
            interrupt(state)
            work.wait(None)
    except BaseException:
        interrupt(state)
        _wait_whatever_comes(work)                            # kernels still use the caller's buffers
        raise
    finally:
        state[INTERRUPT] = 0
    return work.stopped_at


def _check_words(code: np.ndarray, state: np.ndarray) -> None:
    for name, array in (("plan", code), ("state", state)):
        if array.dtype != np.int64 or not array.flags.c_contiguous:
            raise TypeError(f"a {name} is a contiguous int64 array, got {array.dtype}")
    if state.size < STATE_WORDS or code.size < WORDS or code.size % WORDS:
        raise ValueError(f"a plan has {WORDS} words an instruction and a state {STATE_WORDS} words, "
                         f"got {code.size} and {state.size}")


# ---- the threads that wait for native code ----------------------------------------------------------

class _Work:
    """One native run, and where it stopped."""

    def __init__(self, run: Callable[[int], int], pc: int) -> None:
        self._run, self._pc, self._done = run, pc, threading.Event()
        self.stopped_at = pc

    def perform(self) -> None:
        self.stopped_at = self._run(self._pc)
        self._done.set()

    def wait(self, timeout_s: float | None) -> bool:
        """Whether it ended in time. Short waits, because on Windows a signal does not end a wait."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._done.wait(0.1 if end is None else max(0.0, min(0.1, end - time.monotonic()))):
            if end is not None and time.monotonic() >= end:
                return False
        return True


def _wait_whatever_comes(work: _Work) -> None:
    while True:
        try:
            work.wait(None)
            return
        except KeyboardInterrupt:
            continue


_idle: list[queue.SimpleQueue] = []                           # kept: each has its threading layer's team


def _submit(work: _Work) -> None:
    """Perform on an idle thread, or a new one."""
    try:
        _idle.pop().put(work)
    except IndexError:
        inbox = queue.SimpleQueue()
        inbox.put(work)
        threading.Thread(target=_serve, args=(inbox,), name="graphflow-run", daemon=True).start()


def _serve(inbox: queue.SimpleQueue) -> None:
    while True:
        inbox.get().perform()
        _idle.append(inbox)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)           # the child has no such threads
