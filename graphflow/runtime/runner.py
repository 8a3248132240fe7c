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
# MOVE: COPY between two places in the table of buffers.  ROW: a place in the table becomes that of a row of an array.
HALT, CALL, HOST, JUMP, JUMP_IF_FALSE, COMMIT, COPY, MOVE, ROW = range(9)

# State words. The team's room follows them: see _ROOM.
(REASON, CHECK, INTERRUPT, THREADS, PARALLEL_FOR, TIMING, TRAMPOLINE, GATE, COMMITTED, RUN, PIECES, TEAM, NAP, BUSY, LIMIT,
 DEADLINE) = range(16)
STATE_WORDS = 16
DONE, AT_HOST, CHECK_FAILED, INTERRUPTED, PAUSED = range(5)
SLICE = 100_000_000                                            # cycles after which a loop comes back to Python for a moment

# At its first large CALL a run opens one region of the threading layer, and the rest of the run happens inside it:
# the first thread to come goes on with the plan, the others wait for pieces of its CALLs.  So a layer is
# entered once a run (a fork-join of OpenMP costs 1 us, of workqueue 22), and the leader never waits for a thread that
# has not come: one that is late, asleep or never there only means fewer hands.
#
# Room, in 64-byte lines from the state's word 16: 0 the open job (its number; 0 none, -1 the run is over; then
# fn, buffers, sizes, extent, grain, pieces, threads), 1 how many are inside the job, 2-3 what stays for the run (leader there,
# leader's part, pc it stopped at, failed check, last job, plan, pc it started at), from 4 on a line a thread: next
# piece and last piece of its share.  A thread takes pieces of its own share first (neighbouring kernels cut the same way find
# their data in its cache), then what others have left.
_ROOM = 8 * STATE_WORDS
_LINE = 64
_PATIENCE = 2000                                              # pauses (about 0.1 ms) before a waiting thread naps
_NAP_US = 20

_RUN = f"""\
# plan runner
BIG = np.int64(0x7FFFFFFFFFFFFFFF)
def kernel(B, S, lo, hi):
    code = address(function_table(B))
    st = size_table(S)
    room = address(st) + {_ROOM}
    pc = to_i64(to_i32(lo))
    if pc == 0:
        st_i64(st, {COMMITTED}, 0, 99)
    st_i64(st, {DEADLINE}, cycles() + {SLICE}, 99)
    args = stack_i64(1)
    dims = stack_i64(1)
    steps = stack_i64(1)
    st_i64(args, 0, 1, 99)
    st_i64(steps, 0, 1, 99)
    while True:
        at = code + pc * 64
        ins = pointer(at)
        op = ld_i64(ins, 0, 99)
        if ld_i64(st, {COMMITTED}, 99) == 0 and load_volatile(address(st) + {8 * INTERRUPT}) != 0:
            st_i64(st, {REASON}, 3, 99)
            return pc
        timing = ld_i64(st, {TIMING}, 99)
        if timing != 0:
            st_i64(pointer(timing), 2 * pc, cycles(), 99)
        following = pc + 1
        if op == 1:
            fn = ld_i64(ins, 1, 99)
            buffers = ld_i64(ins, 2, 99)
            sizes = ld_i64(ins, 3, 99)
            extent = ld_i64(ins, 4, 99)
            grain = ld_i64(ins, 5, 99)
            team = ld_i64(st, {THREADS}, 99)
            where = ld_i64(st, {TEAM}, 99)
            if grain > 0 and extent > grain and team > 1 and ld_i64(st, {PARALLEL_FOR}, 99) != 0 and where != -1:
                if where == 0:
                    busy = ld_i64(st, {BUSY}, 99)
                    gate = ld_i64(st, {GATE}, 99)
                    others = atomic_add(busy, team)
                    parts = max(1, min(team, ld_i64(st, {LIMIT}, 99) - others))
                    if parts > 1 and gate != 0 and atomic_swap(gate, 1) != 0:
                        parts = 1
                    atomic_add(busy, parts - team)
                    st_i64(st, {TEAM}, -1, 99)
                    if parts == 1:
                        pc = call_kernel(ld_i64(st, {RUN}, 99), code, address(st), pc, 0)
                    else:
                        st_i64(st, {TEAM}, parts, 99)
                        st_i64(dims, 0, parts, 99)
                        r = pointer(room)
                        st_i64(r, 0, 0, 99)
                        st_i64(r, 8, 0, 99)
                        st_i64(r, 16, 0, 99)
                        st_i64(r, 20, 0, 99)
                        st_i64(r, 21, code, 99)
                        st_i64(r, 22, pc, 99)
                        call_parallel_for(ld_i64(st, {PARALLEL_FOR}, 99), ld_i64(st, {TRAMPOLINE}, 99), address(args), address(dims),
                                          address(steps), address(st), parts)
                        pc = ld_i64(r, 18, 99)
                        if gate != 0:
                            atomic_swap(gate, 0)
                    atomic_add(busy, -parts)
                    st_i64(st, {TEAM}, 0, 99)
                    return pc
                chunks = (extent + grain - 1) // grain
                r = pointer(room)
                st_i64(r, 1, fn, 99)
                st_i64(r, 2, buffers, 99)
                st_i64(r, 3, sizes, 99)
                st_i64(r, 4, extent, 99)
                st_i64(r, 5, grain, 99)
                st_i64(r, 6, chunks, 99)
                st_i64(r, 7, where, 99)
                st_i64(r, 19, BIG, 99)
                for p in range(where):
                    share = pointer(room + {4 * _LINE} + {_LINE} * p)
                    st_i64(share, 0, p * chunks // where, 99)
                    st_i64(share, 1, (p + 1) * chunks // where, 99)
                job = ld_i64(r, 20, 99) + 1
                st_i64(r, 20, job, 99)
                atomic_swap(room, job)
                call_kernel(ld_i64(st, {PIECES}, 99), room, 0, ld_i64(r, 17, 99), 0)
                atomic_swap(room, 0)
                waited = 0
                while load_ordered(room + {_LINE}) != 0:
                    pause()
                    waited += 1
                    if waited >= {_PATIENCE}:
                        call_kernel(ld_i64(st, {NAP}, 99), {_NAP_US}, 0, 0, 0)
                failed = ld_i64(r, 19, 99)
                if failed == BIG:
                    failed = 0
            else:
                failed = call_kernel(fn, buffers, sizes, 0, extent)
            if failed != 0:
                if failed == -1:
                    st_i64(st, {REASON}, {PAUSED}, 99)
                    return pc
                st_i64(st, {REASON}, 2, 99)
                st_i64(st, {CHECK}, failed, 99)
                return pc
        elif op == 3:
            following = ld_i64(ins, 6, 99)
            if following < pc:
                if cycles() > ld_i64(st, {DEADLINE}, 99):
                    st_i64(st, {REASON}, {PAUSED}, 99)
                    return following
        elif op == 4:
            if ld_u8(pointer(ld_i64(ins, 2, 99)), 0, 99) == 0:
                following = ld_i64(ins, 6, 99)
        elif op == 5:
            st_i64(st, {COMMITTED}, 1, 99)
        elif op == 6:
            copy_bytes(ld_i64(ins, 2, 99), ld_i64(ins, 3, 99), ld_i64(ins, 4, 99))
        elif op == 8:
            index = ld_i64(pointer(ld_i64(ins, 4, 99)), 0, 99)
            k = to_i64(ld_i32(pointer(index), 0, 99))
            if ld_i64(ins, 5, 99) == 8:
                k = ld_i64(pointer(index), 0, 99)
            st_i64(pointer(ld_i64(ins, 2, 99)), 0, ld_i64(pointer(ld_i64(ins, 3, 99)), 0, 99) + k * ld_i64(ins, 1, 99), 99)
        elif op == 7:
            copy_bytes(ld_i64(pointer(ld_i64(ins, 2, 99)), 0, 99), ld_i64(pointer(ld_i64(ins, 3, 99)), 0, 99), ld_i64(ins, 4, 99))
        else:
            st_i64(st, {REASON}, select(op == 0, 0, 1), 99)
            return pc
        if timing != 0:
            st_i64(pointer(timing), 2 * pc + 1, cycles(), 99)
        pc = following
"""

# A layer hands over (args, dims, steps, data): args[0] - 1 is the first part, dims[0] how many parts; data is the state.
# One thread may get several parts, one after the other: the first is then the leader's, and the rest find the run over.
_TRAMPOLINE = f"""\
# thread trampoline
def kernel(B, S, lo, hi):
    first = address(buf(B, 0)) - 1
    count = size(S, 0)
    st = pointer(hi)
    room = hi + {_ROOM}
    r = pointer(room)
    for part in range(first, first + count):
        if atomic_swap(room + 128, 1) == 0:
            st_i64(r, 17, part, 99)
            st_i64(r, 18, call_kernel(ld_i64(st, {RUN}, 99), ld_i64(r, 21, 99), hi, ld_i64(r, 22, 99), 0), 99)
            atomic_swap(room, -1)
            continue
        done = 0
        idle = 0
        while True:
            job = load_ordered(room)
            if job == -1:
                break
            if job == 0 or job == done:
                pause()
                idle += 1
                if idle >= {_PATIENCE}:
                    call_kernel(ld_i64(st, {NAP}, 99), {_NAP_US}, 0, 0, 0)
                continue
            atomic_add(room + {_LINE}, 1)
            job = load_ordered(room)
            if job > 0 and job != done:
                call_kernel(ld_i64(st, {PIECES}, 99), room, 0, part, 0)
                done = job
                idle = 0
            atomic_add(room + {_LINE}, -1)
    return 0
"""

# Takes pieces of the open job until none is left; lo is the thread's part.
_PIECES = f"""\
# pieces of a parallel call
def kernel(B, S, lo, hi):
    r = function_table(B)
    room = address(r)
    fn = ld_i64(r, 1, 99)
    buffers = ld_i64(r, 2, 99)
    sizes = ld_i64(r, 3, 99)
    extent = ld_i64(r, 4, 99)
    grain = ld_i64(r, 5, 99)
    team = ld_i64(r, 7, 99)
    for k in range(team):
        p = lo + k
        if p >= team:
            p = p - team
        share = room + {4 * _LINE} + {_LINE} * p
        last = ld_i64(pointer(share), 1, 99)
        piece = atomic_add(share, 1)
        while piece < last:
            begin = piece * grain
            failed = call_kernel(fn, buffers, sizes, begin, min(begin + grain, extent))
            if failed != 0:
                atomic_min(room + 152, failed)
            piece = atomic_add(share, 1)
    return 0
"""


@cache
def _native() -> tuple:
    """(run as a C function, the addresses of run, trampoline and pieces)."""
    addresses = compile_kernels([_RUN, _TRAMPOLINE, _PIECES])
    return ctypes.CFUNCTYPE(ctypes.c_int64)(addresses[0]), *addresses


@cache
def _nap() -> int:
    """The address of a C function that lets other threads have the core for a moment; its argument is microseconds."""
    if os.name == "nt":
        return ctypes.cast(ctypes.windll.kernel32.SwitchToThread, ctypes.c_void_p).value or 0  # type: ignore[attr-defined]
    return ctypes.cast(ctypes.CDLL(None).usleep, ctypes.c_void_p).value or 0


# ---- states -----------------------------------------------------------------------------------------

_states: "weakref.WeakValueDictionary[int, np.ndarray]" = weakref.WeakValueDictionary()
_busy = np.zeros(8, np.int64)                                 # [0]: threads that parallel runs of this process have taken


def make_state(threads: int = 1) -> np.ndarray:
    """A state for `execute`; one run at a time may use it. `threads` above what the layer has are cut."""
    layer = _threads.layer() if threads > 1 else None
    team = min(threads, layer.most) if layer is not None else 1
    state = _aligned_words(STATE_WORDS + (8 * (4 + team) if team > 1 else 0))
    state[THREADS] = 1
    if layer is not None and team > 1:
        state[THREADS], state[PARALLEL_FOR], state[LIMIT] = team, layer.parallel_for, layer.most
        state[RUN], state[TRAMPOLINE], state[PIECES] = _native()[1:]
        state[NAP], state[BUSY] = _nap(), _busy.ctypes.data
        state[GATE] = ctypes.addressof(layer.gate) if layer.gate is not None else 0
        _states[id(state)] = state
    return state


def _aligned_words(count: int) -> np.ndarray:
    """Zeros that start at a cache line, so that threads that write different lines do not disturb each other."""
    raw = np.zeros(count + 8, np.int64)
    start = -raw.ctypes.data % _LINE // 8
    return raw[start:start + count]


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
        state[PARALLEL_FOR] = state[GATE] = state[TEAM] = 0
    _busy[0] = 0


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
