"""Writes the printed parts of docs/machine-code.md: the program on that page, taken through every stage.

    python docs/walk.py            fills in the blocks, and draws docs/step.svg
    python docs/walk.py --check    says which blocks are out of date, and fails if one is

A block stands between `<!-- name -->` and the end of the code fence after it.  Times, machine instructions and the tiles of
matrix products differ from machine to machine, so the check leaves those blocks alone.
"""
from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

import graphflow as tf
from graphflow.codegen import backend, contract
from graphflow.runtime import runner

PAGE = Path(__file__).with_name("machine-code.md")
BLOCK = re.compile(r"(<!-- (\w+) -->\n```\w*\n)(.*?)(```\n)", re.S)
VARY = {"product", "machine", "plan", "memory", "timeline"}  # blocks that are different on every machine
ROWS = 256


def program(page: str) -> dict:
    """Runs the page's program; its names."""
    names: dict = {}
    source = next(text for _, name, text, _ in BLOCK.findall(page) if name == "program")
    exec(compile(source, "softmax.py", "exec"), names)
    return names


def steps(report) -> str:
    """The table of passes without their times."""
    return "\n".join(re.sub(r" +[\d.]+ ms", "", line).rstrip() for line in str(report).splitlines())


def clusters(fusion) -> str:
    lines = []
    for i, c in enumerate(fusion.clusters):
        lines.append(f"cluster {i}: {c.kind}, {c.depth} outer axes shared")
        lines += [f"  {'stored' if set(op.outputs) & set(c.outputs) else 'staged'}  {op.name}" for op in c.staged or c.ops]
    return "\n".join(lines + ["", *(f"{a} into {b}: {why}" for a, b, why in fusion.refusals)]).rstrip()


def instructions(plan) -> str:
    """The plan's words, with pointers to kernels and arrays as names."""
    kinds = ["HALT", "CALL", "HOST", "JUMP", "JUMP_IF_FALSE", "COMMIT", "COPY"]
    lines = []
    for pc, row in enumerate(plan.code.reshape(-1, runner.WORDS)):
        text = f"{pc}  {kinds[row[runner.OPCODE]]}"
        unit = plan.unit_at.get(pc)
        if unit is not None and unit.emitted is not None:
            buffers = " ".join(b.label or b.role for b in unit.emitted.buffers)
            label = unit.emitted.source.split("\n", 1)[0].lstrip("# ")
            text += f"  {label}({buffers})  extent {row[runner.EXTENT]}, in pieces of {row[runner.GRAIN]}"
        lines.append(text)
    return "\n".join([*lines, f"arena: {plan.arena_bytes:,} bytes for {len(plan.shape)} arrays"])


def inner_loop(assembly: str) -> str:
    """The vector loop of a kernel: from its label to its jump back."""
    lines = [line.split("#")[0].rstrip().expandtabs(4) for line in assembly.splitlines()]
    lines = [line for line in lines if line.strip() and not line.strip().startswith((".p2align", ".cfi"))]
    best: list[str] = []
    for i, line in enumerate(lines):
        if re.fullmatch(r"\.L\w+:", line):
            end = next((j for j in range(i + 1, len(lines)) if re.fullmatch(r"\.L\w+:", lines[j])), len(lines))
            body = lines[i:end]
            jumps = [j for j, x in enumerate(body) if re.match(r"\s*(j\w+|b\.?\w*)\s+" + re.escape(line[:-1]) + "$", x)]
            if jumps and (not best or sum("mm" in x or ".4s" in x for x in body) > sum("mm" in x or ".4s" in x for x in best)):
                best = body[:jumps[-1] + 1]
    return "\n".join(best)


def blocks(page: str) -> dict[str, str]:
    """The text of every block but the program itself."""
    with tf.Graph().as_default() as g:
        names = program(page)
        x, y, loss, step = (names[n] for n in ("x", "y", "loss", "step"))
        found = {"graph": g.to_text()}
        random = np.random.RandomState(0)
        feed = {x: random.rand(ROWS, 64).astype(np.float32), y: random.randint(0, 10, ROWS).astype(np.int32)}
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            e = tf.explain([loss, step], feed)
            product = [k for k in e.kernels if k.kind == "contraction" and k.name.startswith("product")][-1]
            fused = next(k for k in e.kernels if k.kind == "kernel" and "loss" in k.ops)
            executable = sess._prepare([loss, step], [x, y])[2]
            variant, plan = executable.first(list(feed.values()))
            found |= {"passes": steps(e.passes), "optimized": e.optimized.to_text(), "clusters": clusters(variant.compiled.fusion),
                      "ir": str(fused.ir), "fused": fused.source, "product": product.source,
                      "machine": inner_loop(backend.assembly(contract.blocks.text("f32", contract.PITCH))),
                      "plan": instructions(plan), "memory": str(e).splitlines()[-1]}
            metadata = tf.RunMetadata()
            for _ in range(20):
                sess.run([loss, step], feed, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=metadata)
            nodes = [n for device in metadata.step_stats.dev_stats for n in device.node_stats]
            found["timeline"] = "\n".join(f"{n.all_end_rel_micros:8} us  {n.node_name}" for n in nodes)
    return {name: text.rstrip() + "\n" for name, text in found.items()}


def stale(page: str) -> list[str]:
    """Names of the blocks that the compiler prints differently now."""
    new = blocks(page)
    return [name for _, name, text, _ in BLOCK.findall(page) if name in new and name not in VARY and new[name] != text]


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        old = stale(page)
        print("out of date:", ", ".join(old) or "nothing")
        return bool(old)
    new = blocks(page)
    with tf.Graph().as_default():
        names = program(page)
        drawing = tf.explain([names["loss"], names["step"]]).original
    PAGE.with_name("step.svg").write_text(drawing.to_svg() + "\n", encoding="utf-8")
    PAGE.write_text(BLOCK.sub(lambda m: m[1] + new.get(m[2], m[3]) + m[4], page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
