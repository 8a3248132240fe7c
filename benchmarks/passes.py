"""Time of the whole pipeline over chains of distinct small ops; prints the passes and the time per op.

    python -m benchmarks.passes [ops]

The time per op should not grow with the number of ops.
"""
import sys
import time

from graphflow import types
from graphflow.graph import Spec
from graphflow.ops import opdef
from graphflow.passes import pipeline
from graphflow.passes.program import Program
from graphflow.passes.rewrite import op


def chain(count: int) -> Program:
    """exp, neg, add a constant, multiply, again and again; a few rules fire on the way."""
    with opdef.scratch() as g:
        x = y = g.stand_in(Spec(types.float32, (32,)))
        for i in range(count // 5):
            y = op.Mul(op.Add(op.Neg(op.Exp(op.Identity(y))), 1.5 + i * 1e-6), x)
    return Program((("feed", x, x),), (y,))


def main() -> None:
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for count in (largest // 10, largest):
        program, report = chain(count), pipeline.Report()
        start = time.perf_counter()
        pipeline.run(program, report=report)
        seconds = time.perf_counter() - start
        print(f"{count} ops: {seconds:.3f} s, {1e6 * seconds / count:.1f} us an op\n{report}\n")


if __name__ == "__main__":
    main()
