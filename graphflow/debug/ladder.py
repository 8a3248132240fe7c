"""`GRAPHFLOW_DEBUG=1..5` for compiled steps: 1 the plan, 2 kernel times with GB/s, 4 generated source.

The passes print 3 and 5 themselves.  Reads plans, prints to stderr (rank 5).
"""
from __future__ import annotations

import sys
from typing import Any

from ..flags import flags


def compiled(units: list[Any]) -> None:
    """The instructions of a new program, and their source."""
    for i, u in enumerate(units):
        made = u.emitted or u.launch
        label = made.source.split("\n", 1)[0].lstrip("# ") if made else f"{u.cluster.kind} {u.op.type}"
        print(f"[{i:3}] {label:40} {', '.join(op.name for op in u.cluster.ops[:5])}{' ...' if len(u.cluster.ops) > 5 else ''}",
              file=sys.stderr)
        if flags.debug >= 4 and made:
            print(made.source, file=sys.stderr)


def ran(plan: Any, events: list[dict[str, Any]]) -> None:
    """Times of one run, beside the bytes each kernel touches."""
    nbytes = {", ".join(op.name for op in u.cluster.ops): sum(plan.nbytes(b) for b in (u.emitted or u.launch).buffers)
              for u in plan.compiled.every() if u.emitted or u.launch}
    total = sum(e["seconds"] for e in events) * 1e6
    print(f"{len(events)} kernels, {total:.1f} us, arena {plan.arena_bytes:,} B, sizes {dict(plan.env)}", file=sys.stderr)
    for e in events:
        size = next((n for names, n in nbytes.items() if set(e["ops"]) & set(names.split(", "))), 0)
        print(f"  {e['seconds'] * 1e6:10.1f} us {size / max(e['seconds'], 1e-9) / 1e9:7.1f} GB/s  {e['kind']}", file=sys.stderr)
