"""What the machine can do at best: fused multiply-adds out of registers, and copying. Measured in turn with the sides of a workload.

The FMA loop is a few lines of LLVM text: independent accumulators of full vectors, nothing but FMAs. The copy is NumPy's, over the
10^7 float32 of the elementwise chain. With more threads each runs its own loop, its own part of the copy. Needs llvmlite.
"""
from __future__ import annotations

import ctypes
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import numpy as np

SECONDS = 0.01  # of one call
ACCUMULATORS = 16  # FMAs under way: latency 4 times two units is 8
MOVED = 10**7  # float32 elements copied


def lanes(features: Any) -> int:
    """float32 in a register."""
    return 16 if features.get("avx512f") else 8 if features.get("avx") else 4


def fma_text(n: int) -> str:
    v, names = f"<{n} x float>", range(ACCUMULATORS)
    start = "\n".join(f"  %a{i} = phi {v} [ zeroinitializer, %entry ], [ %b{i}, %loop ]" for i in names)
    body = "\n".join(f"  %b{i} = call {v} @llvm.fma.v{n}f32({v} %x, {v} %y, {v} %a{i})" for i in names)
    sums = "\n".join(f"  %s{i + 1} = fadd {v} %s{i}, %b{i}" for i in names).replace("%s0", "zeroinitializer")
    return f"""
declare {v} @llvm.fma.v{n}f32({v}, {v}, {v})
define void @fma(i64 %count, {v}* %p, {v}* %q) {{
entry:
  %x = load {v}, {v}* %p
  %y = load {v}, {v}* %q
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{start}
{body}
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %done
done:
{sums}
  store {v} %s{ACCUMULATORS}, {v}* %p
  ret void
}}"""


def fma_kernel() -> tuple[Callable[[int], None], int]:
    """(a function that goes round the loop so many times, floating-point operations of one round)."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    n = lanes(features)
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=2)
    module = llvm.parse_assembly(fma_text(n).replace(f"<{n} x float>*", "ptr"))
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(engine.get_function_address("fma"))

    def run(count: int) -> None:
        a = np.zeros((3, n), np.float32)  # holds two aligned vectors, wherever it begins
        at = -(-a.ctypes.data // (4 * n)) * 4 * n
        call(count, at, at + 4 * n)
    run.engine = engine  # type: ignore[attr-defined]  # alive as long as the function is
    return run, 2 * n * ACCUMULATORS


def together(work: Callable[[int], None], threads: int) -> Callable[[], None]:
    """`work(0) .. work(threads - 1)` at the same time."""
    if threads == 1:
        return lambda: work(0)
    pool = ThreadPoolExecutor(threads - 1)

    def step() -> None:
        others = [pool.submit(work, i) for i in range(1, threads)]
        work(0)
        for other in others:
            other.result()
    return step


def fma_step(threads: int) -> tuple[Callable[[], None], float]:
    """(a step of about SECONDS, its floating-point operations)."""
    run, flops = fma_kernel()
    run(1000)
    start = time.perf_counter()
    run(100_000)
    count = int(1e5 * SECONDS / (time.perf_counter() - start))
    return together(lambda i: run(count), threads), float(flops) * count * threads


def copy_step(threads: int, size: int = MOVED) -> tuple[Callable[[], None], float]:
    """(a copy of `size` float32, its bytes: each read and written)."""
    source, target = np.ones(size, np.float32), np.zeros(size, np.float32)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads)))

    def work(i: int) -> None:
        np.copyto(parts[i][1], parts[i][0])
    return together(work, threads), 8.0 * size


def side(flops: float, moved: float) -> Callable[..., Any]:
    """The function of the side `limit`: its time is what so many operations, or so many bytes to and from memory, take at least."""
    def limit(_, *inputs):
        threads = int(os.environ["OMP_NUM_THREADS"])
        steps = [(make(threads), amount) for make, amount in ((fma_step, flops), (copy_step, moved)) if amount]
        times = []
        for (step, capacity), amount in steps:
            step()
            start = time.perf_counter()
            step()
            times.append((time.perf_counter() - start) / capacity * amount)
        (step, capacity), amount = steps[int(np.argmax(times))]
        what = "FMA" if amount is flops else "copy"
        return step, {"scale": amount / capacity, "bound": what, "check": lambda: np.zeros(())}
    return limit


if __name__ == "__main__":
    for threads in (1, 2):
        for name, make in (("GFLOP/s FMA", fma_step), ("GB/s copy", copy_step)):
            step, amount = make(threads)
            best = float("inf")
            for _ in range(50):
                start = time.perf_counter()
                step()
                best = min(best, time.perf_counter() - start)
            print(f"{threads} thread(s): {amount / best / 1e9:.1f} {name}")
